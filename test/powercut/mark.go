package powercut

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// MarksSize is the part at the disk's end that holds the marks.
const MarksSize = 1 << 20

const markPrefix = "vitrine-mark "

// Mark is one promise: what was done to whom.
type Mark struct{ What, Whom string }

// FormatMark is the sector that holds the mark. It is an error if it does not fit.
func FormatMark(m Mark) ([]byte, error) {
	text := fmt.Sprintf("%s%s %s\n", markPrefix, m.What, m.Whom)
	if len(text) > SectorSize {
		return nil, fmt.Errorf("mark %.40q has %d bytes, at most %d fit", m.Whom, len(text), SectorSize)
	}
	return append([]byte(text), make([]byte, SectorSize-len(text))...), nil
}

// ParseMark is the reverse of FormatMark; false for anything else.
func ParseMark(sector []byte) (Mark, bool) {
	line, _, ended := bytes.Cut(sector, []byte("\n"))
	text, ours := strings.CutPrefix(string(line), markPrefix)
	what, whom, whole := strings.Cut(text, " ")
	return Mark{what, whom}, ended && ours && whole
}

// ReadMarks reads the marks of a disk of a size in bytes, up to the first sector that is none.
func ReadMarks(disk io.ReaderAt, size int64) (marks []Mark, err error) {
	raw := make([]byte, MarksSize)
	if _, err := disk.ReadAt(raw, size-MarksSize); err != nil {
		return nil, fmt.Errorf("read marks: %w", err)
	}
	for ; len(raw) > 0; raw = raw[SectorSize:] {
		m, ok := ParseMark(raw[:SectorSize])
		if !ok {
			break
		}
		marks = append(marks, m)
	}
	return marks, nil
}
