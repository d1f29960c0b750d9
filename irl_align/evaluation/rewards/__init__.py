"""How good a reward is: whether it prefers what people (or a benchmark's authors) prefer.

`items` reads preference pairs and best-of-N items, `grading` turns scores into right and wrong,
`judging` does so for a generative judge, `rewardbench` aggregates by section, `scorers` loads what
scores, and `trial` puts them together: resumable, recorded, the same for `irl-align score` and
`eval/rewardbench.py`.
"""
