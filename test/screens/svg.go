package main

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Sizes of a terminal's cell and of a page's line, in pixels.
const (
	cellWidth, cellHeight = 8.2, 17
	terminalColumns       = 132
	margin                = 14
	foreground            = "#e6edf3"
	pageWidth, pageLine   = 1200, 29
	pageColumns           = 150 // characters in a line of a page, roughly
)

// colours are those of the SGR codes that the vitrine command uses.
var colours = map[string]string{"31": "#ff7b72", "36": "#56d4dd", "2": "#8b949e"}

// pieces of a line, words or blocks, are each drawn at their own column: how wide blanks at
// the edge of a piece are, viewers do not agree.
var pieces = regexp.MustCompile(`[▏▎▍▌▋▊▉█▐▕]+|[^\s▏▎▍▌▋▊▉█▐▕]+(?: [^\s▏▎▍▌▋▊▉█▐▕]+)*`)

var sgr = regexp.MustCompile("\x1b\\[([0-9;]*)m")

// terminal draws the output of a command, with its colours, as it stands in a terminal.
// Every line has the width of its characters, whatever font is at hand.
func terminal(command, output string) []byte {
	lines := []string{"$ " + command}
	for line := range strings.SplitSeq(strings.TrimRight(output, "\n"), "\n") {
		lines = append(lines, wrap(line)...)
	}
	columns := 0
	for _, l := range lines {
		columns = max(columns, len([]rune(sgr.ReplaceAllString(l, ""))))
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="13.5" role="img" aria-label="%s">`+"\n",
		float64(columns)*cellWidth+2*margin, len(lines)*cellHeight+2*margin, escape(command))
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" rx="8" fill="#0d1117"/>`+"\n")
	for i, l := range lines {
		var bars strings.Builder
		fmt.Fprintf(&b, `<text xml:space="preserve" y="%d" fill="%s">`, margin+(i+1)*cellHeight-4, foreground)
		column, colour := 0, ""
		part := func(text string) {
			fill := ""
			if colour != "" {
				fill = fmt.Sprintf(` fill="%s"`, colour)
			}
			for _, at := range pieces.FindAllStringIndex(text, -1) {
				from, n := utf8.RuneCountInString(text[:at[0]]), utf8.RuneCountInString(text[at[0]:at[1]])
				if left, width, is := bar(text[at[0]:at[1]]); is { // fonts leave gaps between blocks
					fmt.Fprintf(&bars, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`, margin+(float64(column+from)+left)*cellWidth,
						margin+i*cellHeight+2, width*cellWidth, cellHeight-3, cmp.Or(colour, foreground))
					continue
				}
				fmt.Fprintf(&b, `<tspan x="%.1f" textLength="%.1f" lengthAdjust="spacingAndGlyphs"%s>%s</tspan>`,
					margin+float64(column+from)*cellWidth, float64(n)*cellWidth, fill, escape(text[at[0]:at[1]]))
			}
			column += utf8.RuneCountInString(text)
		}
		at := 0
		for _, m := range sgr.FindAllStringSubmatchIndex(l, -1) {
			part(l[at:m[0]])
			colour, at = colours[l[m[2]:m[3]]], m[1]
		}
		part(l[at:])
		b.WriteString("</text>" + bars.String() + "\n")
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// eighths are the block characters that fill a cell from its left.
const eighths = " ▏▎▍▌▋▊▉█"

// bar is where a piece of a line that is made of blocks alone begins and how wide it is, in
// cells from the piece's first.
func bar(piece string) (left, width float64, is bool) {
	runes := []rune(piece)
	right := float64(len(runes))
	for i, r := range runes {
		n := slices.Index([]rune(eighths), r)
		switch {
		case i == 0 && r == '▐':
			left = 0.5
		case i == 0 && r == '▕':
			left = 7. / 8
		case n <= 0 || n < 8 && i < len(runes)-1:
			return 0, 0, false
		case i == len(runes)-1:
			right += float64(n)/8 - 1
		}
	}
	return left, right - left, true
}

// wrap breaks a line of more than terminalColumns characters at a blank where there is
// one, and goes on below the line's first character in the colour it had.
func wrap(line string) (rows []string) {
	indent := len(line) - len(strings.TrimLeft(line, " "))
	for {
		width, blank, end, colour := 0, -1, -1, ""
		for i := 0; i < len(line); {
			if m := sgr.FindStringIndex(line[i:]); m != nil && m[0] == 0 {
				colour = line[i : i+m[1]]
				i += m[1]
				continue
			}
			_, n := utf8.DecodeRuneInString(line[i:])
			if line[i] == ' ' && width > indent+terminalColumns/2 {
				blank = i
			}
			if width++; width > terminalColumns {
				end = i
				break
			}
			i += n
		}
		if end < 0 {
			return append(rows, line)
		}
		if blank > 0 {
			end = blank
		}
		rows = append(rows, line[:end])
		line = strings.Repeat(" ", indent) + colour + strings.TrimLeft(line[end:], " ")
	}
}

// browser draws a page of the daemon, which is HTML by the rules of XML, with its own
// style. The height is a guess by its rows.
func browser(page, style string) ([]byte, error) {
	_, rest, found := strings.Cut(page, `<main id="main">`)
	body, _, closed := strings.Cut(rest, "</main>")
	if !found || !closed {
		return nil, errors.New("the page has no main part")
	}
	body = strings.ReplaceAll(body, "<svg ", `<svg xmlns="http://www.w3.org/2000/svg" `)
	style = strings.NewReplacer("body {", ".page {", ":root {", ".page {", "light dark", "light").Replace(style)
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" role="img" aria-label="the daemon's page">`+"\n", pageWidth, height(body))
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#fff"/><foreignObject width="100%%" height="100%%"><div xmlns="http://www.w3.org/1999/xhtml" class="page" style="color:#111"><style>%s</style>%s</div></foreignObject></svg>`+"\n", escape(style), body)
	for d := xml.NewDecoder(bytes.NewReader(b.Bytes())); ; {
		if _, err := d.Token(); err == io.EOF {
			return b.Bytes(), nil
		} else if err != nil {
			return nil, fmt.Errorf("the page is not XML: %w", err)
		}
	}
}

var (
	block = regexp.MustCompile(`(?s)<(tr|caption|h1|h2|h3|p|dt|li)\b.*?</(tr|caption|h1|h2|h3|p|dt|li)>`)
	tag   = regexp.MustCompile(`<[^>]*>`)
)

// height of a page in pixels: its blocks, each with as many lines as its text needs.
func height(body string) int {
	lines := 4
	for _, part := range block.FindAllString(body, -1) {
		lines += 1 + len(strings.TrimSpace(tag.ReplaceAllString(part, "")))/pageColumns
		if strings.HasPrefix(part, "<h") || strings.HasPrefix(part, "<caption") {
			lines++
		}
	}
	return lines * pageLine
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
