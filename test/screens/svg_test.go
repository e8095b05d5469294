package main

import (
	"encoding/xml"
	"io"
	"regexp"
	"strings"
	"testing"
)

// wellFormed reads an SVG to its end and returns its text.
func wellFormed(t *testing.T, drawn []byte) (text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(drawn)))
	for {
		token, err := d.Token()
		if err == io.EOF {
			return text
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, drawn)
		}
		if chars, ok := token.(xml.CharData); ok {
			text += string(chars)
		}
	}
}

func TestATerminalKeepsEveryWordAndItsColour(t *testing.T) {
	drawn := terminal("vitrine trace a&b", "plain \x1b[31mred <b>\x1b[0m end\n└─ tree\n")
	text := wellFormed(t, drawn)
	for _, want := range []string{"$ vitrine trace a&b", "plain", "red <b>", "end", "└─ tree"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
	if n := strings.Count(string(drawn), `fill="#ff7b72"`); n != 1 || strings.Contains(string(drawn), "\x1b") {
		t.Errorf("%d red parts in\n%s", n, drawn)
	}
}

func TestWhatStandsInAColumnIsDrawnInIt(t *testing.T) {
	drawn := string(terminal("x", "name a   \x1b[36m  12ms ██\x1b[0m   end\nname b     12ms ██   end"))
	where := map[string][]string{}
	for _, m := range regexp.MustCompile(`<tspan x="([0-9.]+)"[^>]*>([^<]*)</tspan>`).FindAllStringSubmatch(drawn, -1) {
		if strings.TrimSpace(m[2]) != m[2] || m[2] == "" {
			t.Errorf("%q has blanks at its edge", m[2])
		}
		where[m[2]] = append(where[m[2]], m[1])
	}
	for _, m := range regexp.MustCompile(`<rect x="([0-9.]+)" y="\d+" width="([0-9.]+)"`).FindAllStringSubmatch(drawn, -1) {
		where["██"] = append(where["██"], m[1])
	}
	for _, word := range []string{"12ms", "██", "end"} {
		if at := where[word]; len(at) != 2 || at[0] != at[1] {
			t.Errorf("%q is drawn at %v", word, at)
		}
	}
}

func TestBlocksAreDrawnAsWideAsTheyAre(t *testing.T) {
	for piece, want := range map[string][2]float64{"█": {0, 1}, "██▌": {0, 2.5}, "▐█": {0.5, 1.5}, "▕": {7. / 8, 1. / 8}, "▏": {0, 1. / 8}, "▐█▏": {0.5, 1.625}} {
		if left, width, is := bar(piece); !is || left != want[0] || width != want[1] {
			t.Errorf("%q begins at %g and is %g wide: %v, want %v", piece, left, width, is, want)
		}
	}
	for _, piece := range []string{"a", "█ █", "▌█", "█a", "┊"} {
		if _, _, is := bar(piece); is {
			t.Errorf("%q is a bar", piece)
		}
	}
}

func TestALongLineIsWrappedInItsColour(t *testing.T) {
	long := "  \x1b[31m" + strings.Repeat("word ", 60) + "end\x1b[0m"
	rows := wrap(long)
	var words []string
	for i, row := range rows {
		plain := sgr.ReplaceAllString(row, "")
		if len(plain) > terminalColumns || !strings.HasPrefix(row, "  \x1b[31m") || !strings.HasPrefix(plain, "  ") {
			t.Errorf("row %d is %q", i, row)
		}
		words = append(words, strings.Fields(plain)...)
	}
	if len(rows) != 3 || len(words) != 61 || words[60] != "end" {
		t.Errorf("%d rows, %d words: %q", len(rows), len(words), rows)
	}
	if short := wrap("short"); len(short) != 1 || short[0] != "short" {
		t.Errorf("%q", short)
	}
}

func TestAPageIsDrawnWithItsStyle(t *testing.T) {
	drawn, err := browser(`<html><main id="main"><h1>Node</h1><table><tr><td>a&amp;b <svg viewBox="0 0 1 1"></svg></td></tr></table></main></html>`, "body { color: red; } td > ul { margin: 0; }")
	if err != nil {
		t.Fatal(err)
	}
	if text := wellFormed(t, drawn); !strings.Contains(text, "a&b") || !strings.Contains(text, ".page { color: red; } td > ul") {
		t.Errorf("%s", text)
	}
	for _, broken := range []string{"<p>no main part</p>", `<main id="main"><p>open</main>`} {
		if drawn, err := browser(broken, ""); err == nil {
			t.Errorf("%q became %s", broken, drawn)
		}
	}
}
