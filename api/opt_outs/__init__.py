"""People who must be matched and then dropped."""
