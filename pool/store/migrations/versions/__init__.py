"""One module per migration, in order of revision."""
