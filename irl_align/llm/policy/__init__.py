"""Policy learners: SFT and KL-regularised improvement."""
