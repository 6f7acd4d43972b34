"""The subcommands of the porch, one module each; each imports its room only when it is called."""
