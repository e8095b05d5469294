package powercut

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// entry is how a test says a write: sectors of one letter, or a flush.
type entry struct {
	sector uint64
	text   string
	flags  uint64
}

func logOf(entries ...entry) []byte {
	var out bytes.Buffer
	sector := func(words ...uint64) {
		raw := make([]byte, SectorSize)
		for i, w := range words {
			binary.LittleEndian.PutUint64(raw[8*i:], w)
		}
		out.Write(raw)
	}
	sector(magic, version, uint64(len(entries)), SectorSize)
	for _, e := range entries {
		sector(e.sector, uint64(len(e.text)), e.flags, 0)
		if e.flags&flagDiscard == 0 {
			for _, letter := range []byte(e.text) {
				out.Write(bytes.Repeat([]byte{letter}, SectorSize))
			}
		}
	}
	return out.Bytes()
}

// sectors is a disk in memory.
type sectors []byte

func (s sectors) WriteAt(p []byte, at int64) (int, error) { return copy(s[at:], p), nil }

func (s sectors) letters() string {
	var text []byte
	for ; len(s) > 0; s = s[SectorSize:] {
		text = append(text, max(s[0], '.'))
	}
	return string(text)
}

func TestCutKeepsWhatWasFlushedAndLosesOfTheRest(t *testing.T) {
	const size = 8 * SectorSize
	raw := logOf(entry{0, "aa", 0}, entry{0, "", flagFlush}, entry{1, "bbb", 0}, entry{4, "cc", flagFUA}, entry{0, "dd", flagDiscard}, entry{7, "m", 0})
	log, err := ReadLog(bytes.NewReader(raw), size)
	if err != nil || len(log.Writes) != 6 {
		t.Fatalf("%d entries, %v", len(log.Writes), err)
	}
	seen := map[string]int{}
	for seed := range uint64(200) {
		disk := make(sectors, size)
		lost, err := log.Cut(disk, 6, 7, rand.New(rand.NewPCG(seed, 0)))
		if err != nil {
			t.Fatal(err)
		}
		if whole := disk.letters() == "abbbcc.m"; whole != (lost == 0) {
			t.Errorf("%q: %d writes lost", disk.letters(), lost)
		}
		seen[disk.letters()]++
	}
	for _, want := range []string{"aa..cc.m", "ab..cc.m", "abb.cc.m", "abbbcc.m"} {
		if seen[want] == 0 {
			t.Errorf("never %q", want)
		}
		delete(seen, want)
	}
	if len(seen) != 0 {
		t.Errorf("no power cut leaves %v", seen)
	}
	for _, c := range []struct{ from, to, want int }{{0, 6, 6}, {0, 2, 1}, {1, 2, 1}, {2, 2, 2}, {2, 4, 4}} {
		if got := log.MostUnflushed(c.from, c.to); got != c.want {
			t.Errorf("from %d to %d most is unflushed after %d, want %d", c.from, c.to, got, c.want)
		}
	}
	for n, want := range []string{"........", "", "aa......"} {
		disk := make(sectors, size)
		if _, err := log.Cut(disk, n, 7, rand.New(rand.NewPCG(1, 0))); err != nil {
			t.Fatal(err)
		}
		if got := disk.letters(); want != "" && got != want {
			t.Errorf("after %d entries: %q, want %q", n, got, want)
		}
	}
}

func TestLogThatIsNoneIsRefused(t *testing.T) {
	good := logOf(entry{0, "a", 0})
	for name, raw := range map[string][]byte{
		"empty": nil, "not a log": make([]byte, SectorSize), "cut off": good[:SectorSize+16],
		"beyond the disk": logOf(entry{8, "a", 0}), "far beyond": logOf(entry{1 << 63, "a", 0}),
	} {
		if log, err := ReadLog(bytes.NewReader(raw), 8*SectorSize); err == nil {
			t.Errorf("%s: %+v", name, log.Writes)
		}
	}
}

func TestMarksAreReadUpToTheFirstThatIsNone(t *testing.T) {
	disk := make(sectors, 2*MarksSize)
	for i, m := range []Mark{{"pulled", "a/b:1"}, {"settled", "a/b:1"}} {
		sector, err := FormatMark(m)
		if err != nil {
			t.Fatal(err)
		}
		disk.WriteAt(sector, int64(MarksSize+i*SectorSize))
	}
	got, err := ReadMarks(bytes.NewReader(disk), int64(len(disk)))
	if err != nil || len(got) != 2 || got[0] != (Mark{"pulled", "a/b:1"}) || got[1].What != "settled" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := FormatMark(Mark{"pulled", string(make([]byte, SectorSize))}); err == nil {
		t.Error("a mark of more than a sector was taken")
	}
}
