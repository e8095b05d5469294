// Package man writes the manual pages of the commands from what they say of themselves.
package man

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Page writes root's page for man(7): every command with its flags, in order. The
// section is 1 or 8; also names the pages to see, as in "vitrined.toml (5)".
func Page(root *cobra.Command, section int, also ...string) string {
	var b strings.Builder
	usage := "[OPTIONS] COMMAND"
	if root.Runnable() {
		usage = "[OPTIONS] [COMMAND]"
	}
	fmt.Fprintf(&b, ".TH %s %d\n.SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.B %s\n%s\n", strings.ToUpper(root.Name()), section, root.Name(), roff(root.Short), root.Name(), usage)
	if root.Long != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", roff(root.Long))
	}
	fmt.Fprintf(&b, ".SH OPTIONS\n%s", options(root.PersistentFlags()))
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
			fmt.Fprintf(&b, ".SS %s\n%s\n%s", roff(strings.TrimPrefix(c.UseLine(), root.Name()+" ")), roff(text), options(c.LocalNonPersistentFlags()))
		}
		for _, sub := range c.Commands() {
			add(sub)
		}
	}
	for _, c := range root.Commands() {
		add(c)
	}
	b.WriteString(".SH EXIT STATUS\n0 if the command did what it was asked for, else 1 with one line on standard error.\n.SH SEE ALSO\n")
	fmt.Fprintf(&b, ".BR %s\n", strings.Join(also, ",\n.BR "))
	return b.String()
}

func options(flags *pflag.FlagSet) string {
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
