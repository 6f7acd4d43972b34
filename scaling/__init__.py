"""How much capital each instrument can carry: efficiency models and allocation. Stands alone on numpy, scipy, SQLAlchemy."""
