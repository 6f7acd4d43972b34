"""The books' side of the pool: from proved work to balances that anybody can check."""
