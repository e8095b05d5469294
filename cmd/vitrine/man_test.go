package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/vitrine-runtime/vitrine/cmd/man"
)

//go:generate go test -run TestManPageIsGenerated . -update

// The manual page is what the commands say of themselves.
func TestManPageIsGenerated(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "man", "vitrine.1")
	page := man.Page(command(), 1, "vitrined (8)", "vitrined.toml (5)")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != page {
		t.Errorf("docs/man/vitrine.1 is not what the commands say (make generate writes it): %v", err)
	}
}
