//go:build tools

// Package tools pins the servers that the tests run for real. Nothing of it is imported by the pool.
package tools

import (
	_ "github.com/btcsuite/btcd"
)
