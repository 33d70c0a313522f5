"""Commands beside the recipes: sites, tests, measurements."""
