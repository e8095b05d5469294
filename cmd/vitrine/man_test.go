package main

import (
	"path/filepath"
	"testing"

	"github.com/vitrine-runtime/vitrine/cmd/man"
	"github.com/vitrine-runtime/vitrine/test/golden"
)

//go:generate go test -run TestManPageIsGenerated . -update

// The manual page is what the commands say of themselves.
func TestManPageIsGenerated(t *testing.T) {
	golden.Check(t, filepath.Join("..", "..", "docs", "man", "vitrine.1"), man.Page(command(), 1, "vitrined (8)", "vitrined.toml (5)"))
}
