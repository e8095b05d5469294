package history

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// header is the first line of a segment.
const header = "vitrine-history 1\n"

// maxLine bounds one entry, in bytes.
const maxLine = 256 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// line encodes an entry; one that is too long is refused.
func line(e Entry) ([]byte, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	if len(body) > maxLine {
		return nil, fmt.Errorf("an entry of %d bytes, more than %d", len(body), maxLine)
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(body, castagnoli), body), nil
}

// parse is the inverse of line, without the line's end. ok is false for a torn line.
func parse(raw []byte) (e Entry, ok bool) {
	sum, body, found := bytes.Cut(raw, []byte(" "))
	var want [4]byte
	if !found || len(sum) != 8 {
		return e, false
	}
	if _, err := hex.Decode(want[:], sum); err != nil {
		return e, false
	}
	got := crc32.Checksum(body, castagnoli)
	if want != [4]byte{byte(got >> 24), byte(got >> 16), byte(got >> 8), byte(got)} {
		return e, false
	}
	return e, json.Unmarshal(body, &e) == nil
}

// scan calls visit with every line of a segment that contains one of the texts (all
// lines without any), and returns how many were torn.
func scan(path string, texts [][]byte, visit func(Entry)) (torn int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // it has just given way
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, 64<<10)
	first := true
	for {
		raw, err := readLine(lines)
		if len(raw) > 0 {
			switch {
			case first && string(raw) == strings.TrimSuffix(header, "\n"):
			case first:
				return 1, nil // of another version, or not ours
			case len(texts) > 0 && !slices.ContainsFunc(texts, func(text []byte) bool { return bytes.Contains(raw, text) }):
			default:
				if e, ok := parse(raw); ok {
					visit(e)
				} else {
					torn++
				}
			}
			first = false
		}
		if err == io.EOF {
			return torn, nil
		}
		if err != nil {
			return torn, err
		}
	}
}

// readLine returns a line without its end. What is longer than any entry is cut,
// so that its sum does not fit.
func readLine(r *bufio.Reader) ([]byte, error) {
	var whole []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(whole) <= maxLine+16 {
			whole = append(whole, part...)
		}
		if err != bufio.ErrBufferFull {
			return bytes.TrimSuffix(whole, []byte("\n")), err
		}
	}
}

// segment is one file.
type segment struct {
	number int
	path   string
	size   int64
}

// segments lists the files of dir, the oldest first.
func segments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []segment
	for _, e := range entries {
		number, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".log"))
		if err != nil || !strings.HasSuffix(e.Name(), ".log") {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue
		}
		all = append(all, segment{number, filepath.Join(dir, e.Name()), info.Size()})
	}
	slices.SortFunc(all, func(a, b segment) int { return a.number - b.number })
	return all, nil
}
