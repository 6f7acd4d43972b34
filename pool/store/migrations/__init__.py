"""Alembic's environment and the migrations, packaged in the wheel and run at start."""
