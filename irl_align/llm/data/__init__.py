"""Reading and checking data: demonstrations, preferences and prompts. See README.md."""
