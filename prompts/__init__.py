"""The prompt and concept data of zbench (installed as the import package ``zbench_prompts``)."""
