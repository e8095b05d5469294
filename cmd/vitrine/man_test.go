package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

//go:generate go test -run TestManPageIsGenerated . -update

// The manual page is what the commands say of themselves.
func TestManPageIsGenerated(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "man", "vitrine.1")
	page := manPage(command())
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

// manPage writes a page for man(7): every command with its flags, in order.
func manPage(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1\n.SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.B %s\n[OPTIONS] COMMAND\n", strings.ToUpper(root.Name()), root.Name(), roff(root.Short), root.Name())
	fmt.Fprintf(&b, ".SH OPTIONS\n%s", manFlags(root.PersistentFlags()))
	b.WriteString(".SH COMMANDS\n")
	var add func(*cobra.Command)
	add = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			return
		}
		if c.Runnable() {
			text := c.Long
			if text == "" {
				text = c.Short + "."
			}
			fmt.Fprintf(&b, ".SS %s\n%s\n%s", roff(strings.TrimPrefix(c.UseLine(), root.Name()+" ")), roff(text), manFlags(c.LocalNonPersistentFlags()))
		}
		for _, sub := range c.Commands() {
			add(sub)
		}
	}
	for _, c := range root.Commands() {
		add(c)
	}
	b.WriteString(".SH EXIT STATUS\n0 if the command did what it was asked for, else 1 with one line on standard error.\n.SH SEE ALSO\n.BR vitrined.toml (5)\n")
	return b.String()
}

func manFlags(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if f.Value.Type() != "bool" {
			name += " " + strings.ToUpper(f.Value.Type())
		}
		value := ""
		if f.DefValue != "" && f.DefValue != "false" {
			value = " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(&b, ".TP\n.B %s\n%s%s\n", roff(name), roff(f.Usage), roff(value))
	})
	return b.String()
}

// roff escapes what man(7) would read as its own; paragraphs stay apart.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n\n", "\n.PP\n").Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if line != ".PP" && (strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'")) {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
