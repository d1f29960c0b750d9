"""Everyday topics for the quickstart's prompts: 100 things, each seen from a few sides."""

from __future__ import annotations

import random

__all__ = ["prompts"]

THINGS = (
    "bridge river library bicycle kitchen garden train market school theatre letter window "
    "hospital teacher lighthouse bakery forest mountain village harbour museum neighbour clock "
    "camera guitar piano novel newspaper map suitcase airport bus station taxi road tunnel "
    "factory farm horse dog cat bird fish bee tree flower orchard desert island storm winter "
    "summer morning evening night moon star telescope computer phone battery engine robot bridge "
    "doctor nurse painter writer singer dancer cook waiter driver pilot sailor soldier farmer "
    "student child grandmother brother friend stranger wedding birthday holiday match race chess "
    "puzzle recipe soup bread coffee tea umbrella coat shoe ring coin wallet bank shop street "
    "tower cellar roof door key ladder"
)
SIDES = ("an old", "a new", "a small", "a lost", "a busy", "a quiet", "a strange", "a local")


def prompts(count: int, seed: int = 0) -> list[str]:
    """`count` different prompts in an order that depends on `seed` alone."""
    things = list(dict.fromkeys(THINGS.split()))
    pairs = [
        f"Describe the mood of {side} {thing} in five words." for thing in things for side in SIDES
    ]
    random.Random(seed).shuffle(pairs)
    if count > len(pairs):
        raise ValueError(f"only {len(pairs)} prompts, {count} asked for")
    return pairs[:count]
