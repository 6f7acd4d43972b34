"""The database: engine, tables, migrations, inbox. One module per room's tables."""
