package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

var recordShape = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) [PF] `)

// reassemble joins the records of each stream and checks their shape, their order in
// time and their length.
func reassemble(t testing.TB, file []byte, maxLine int) map[string]string {
	t.Helper()
	streams, last := map[string]*strings.Builder{"stdout": {}, "stderr": {}}, map[string]time.Time{}
	if len(file) > 0 && file[len(file)-1] != '\n' {
		t.Errorf("the file ends inside a record: %.80q", file[max(0, len(file)-80):])
	}
	for _, line := range bytes.SplitAfter(file, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		if !recordShape.Match(line) {
			t.Fatalf("not a record: %.120q", line)
		}
		at, err := time.Parse(time.RFC3339Nano, string(line[:stampLen]))
		stream, tag, content := string(line[31:37]), line[38], line[headLen:len(line)-1]
		if err != nil || at.Before(last[stream]) {
			t.Fatalf("time %q after %v: %v", line[:stampLen], last[stream], err)
		}
		last[stream] = at
		if len(content) > maxLine {
			t.Fatalf("record of %d bytes, limit %d", len(content), maxLine)
		}
		streams[stream].Write(content)
		if tag == 'F' {
			streams[stream].WriteByte('\n')
		}
	}
	return map[string]string{"stdout": streams["stdout"].String(), "stderr": streams["stderr"].String()}
}

func open(t testing.TB, maxLine int) (*Writer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "0.log")
	w, err := Open(path, maxLine)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w, path
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func ended(s string) string {
	if s != "" && !strings.HasSuffix(s, "\n") {
		return s + "\n"
	}
	return s
}

func TestStreamsComeBackByteForByte(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 10<<20/16)
	for name, input := range map[string]string{
		"nothing": "", "empty lines": "\n\n\n", "crlf": "a\r\nb\r\n", "nul": "a\x00b\n\x00\n", "not utf-8": "\xff\xfe\n\xc3\n",
		"ansi": "\x1b[31mred\x1b[0m\n", "no line end": "first\nlast", "blanks": "  \n \t\n", "looks like a record": "2006-01-02T15:04:05.000000000Z stdout F x\n",
		"4095": long[:4095] + "\n", "4096": long[:4096] + "\n", "8191": long[:8191] + "\n", "8192": long[:8192] + "\n",
		"16383": long[:16383] + "\n", "16384": long[:16384] + "\n", "16385": long[:16385] + "\n", "16384 without end": long[:16384],
		"10 MB": long + "\n", "10 MB then short": long + "\nshort\n",
	} {
		for _, chunk := range []int{1, 4096, 16384, 65536} {
			if chunk == 1 && len(input) > 1<<17 {
				continue
			}
			w, path := open(t, 0)
			s := NewStream(false)
			for i := 0; i < len(input); i += chunk {
				w.Write(s, time.Now().UnixNano(), []byte(input[i:min(i+chunk, len(input))]))
			}
			w.End(s, time.Now().UnixNano())
			if got := reassemble(t, read(t, path), DefaultMaxLine)["stdout"]; got != ended(input) {
				t.Errorf("%s in chunks of %d: %d bytes came back of %d", name, chunk, len(got), len(input))
			}
			if w.BytesIn != uint64(len(input)) || w.Lines != uint64(strings.Count(ended(input), "\n")) || w.Dropped != 0 {
				t.Errorf("%s: counters %+v", name, w.Counters)
			}
		}
	}
}

func TestALineOfTheLimitIsOneFullRecord(t *testing.T) {
	for size, want := range map[int]string{16383: "F", 16384: "F", 16385: "PF", 32768: "PF", 32769: "PPF"} {
		w, path := open(t, 0)
		s := NewStream(false)
		w.Write(s, 1, append(bytes.Repeat([]byte("x"), size), '\n'))
		var tags string
		for line := range strings.Lines(string(read(t, path))) {
			tags += line[38:39]
		}
		if tags != want {
			t.Errorf("%d bytes: records %s, want %s", size, tags, want)
		}
	}
}

func TestAPromptIsWrittenAsPartialAndCompletedLater(t *testing.T) {
	w, path := open(t, 0)
	s := NewStream(false)
	w.Write(s, 1, []byte("Password: "))
	if len(read(t, path)) != 0 {
		t.Fatal("a beginning of a line was written at once")
	}
	w.FlushPartial(s, 2)
	w.Write(s, 3, []byte("***\n"))
	want := "1970-01-01T00:00:00.000000002Z stdout P Password: \n1970-01-01T00:00:00.000000003Z stdout F ***\n"
	if got := string(read(t, path)); got != want {
		t.Errorf("got %q", got)
	}
	w.Write(s, 4, []byte("end"))
	w.FlushPartial(s, 5)
	w.End(s, 6)
	if got := reassemble(t, read(t, path), DefaultMaxLine)["stdout"]; got != "Password: ***\nend\n" {
		t.Errorf("got %q", got)
	}
}

func TestTimestampsFollowTheCalendarAndNeverGoBack(t *testing.T) {
	var s stamp
	check := func(ns int64) {
		s.set(ns)
		if want := time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.000000000Z"); string(s.text[:]) != want {
			t.Fatalf("%d: got %s, want %s", ns, s.text[:], want)
		}
	}
	for day := int64(0); day < 366*140; day++ {
		check(day*86400e9 + 86399999999999)
	}
	for range 10000 {
		check(rand.Int64N(1 << 62))
	}
	w, path := open(t, 0)
	st := NewStream(true)
	w.Write(st, 5e9, []byte("a\n"))
	w.Write(st, 3e9, []byte("b\n"))
	w.Write(st, -1, []byte("c\n"))
	if got := reassemble(t, read(t, path), DefaultMaxLine)["stderr"]; got != "a\nb\nc\n" {
		t.Errorf("got %q", got)
	}
}

func TestRotationUnderLoadKeepsEveryLineOnce(t *testing.T) {
	w, path := open(t, 0)
	s := [2]*Stream{NewStream(false), NewStream(true)}
	var pending [2]bytes.Buffer
	var files []string
	for i := range 200000 {
		k := i & 1
		fmt.Fprintf(&pending[k], "line %d %s\n", i, strings.Repeat("x", i%150))
		if pending[k].Len() > 60000 || i%7 == 0 { // cut anywhere
			n := rand.IntN(pending[k].Len() + 1)
			w.Write(s[k], time.Now().UnixNano(), pending[k].Next(n))
		}
		if i%5000 == 4999 {
			rotated := fmt.Sprintf("%s.%d", path, i)
			if err := os.Rename(path, rotated); err != nil {
				t.Fatal(err)
			}
			files = append(files, rotated)
			if err := w.Reopen(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for k := range s {
		w.Write(s[k], time.Now().UnixNano(), pending[k].Bytes())
		w.End(s[k], time.Now().UnixNano())
	}
	got := map[string]string{}
	for _, f := range append(files, path) {
		for stream, text := range reassemble(t, read(t, f), DefaultMaxLine) {
			got[stream] += text
		}
	}
	for k, stream := range []string{"stdout", "stderr"} {
		next := k
		for line := range strings.Lines(got[stream]) {
			if !strings.HasPrefix(line, fmt.Sprintf("line %d ", next)) {
				t.Fatalf("%s: %q where line %d should be", stream, line, next)
			}
			next += 2
		}
		if next != 200000+k {
			t.Errorf("%s: ends at %d", stream, next)
		}
	}
}

func TestReopenErrorKeepsTheOldFileAndLeavesNoNewOne(t *testing.T) {
	w, path := open(t, 0)
	s := NewStream(false)
	refuse := func(name string, want error) {
		t.Helper()
		if err := w.Reopen(); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		w.Write(s, 1, []byte(name+"\n"))
	}
	old := path + ".1"
	if err := os.Rename(path, old); err != nil {
		t.Fatal(err)
	}
	os.Symlink("elsewhere", path)
	refuse("symlink", syscall.ELOOP)
	os.Remove(path)
	syscall.Mkfifo(path, 0o600)
	refuse("fifo", syscall.ENXIO)
	os.Remove(path)
	os.Mkdir(path, 0o700)
	refuse("directory", syscall.EISDIR)
	os.Remove(path)
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	if got := reassemble(t, read(t, old), DefaultMaxLine)["stdout"]; got != "symlink\nfifo\ndirectory\n" {
		t.Errorf("got %q", got)
	}
	os.WriteFile(path, []byte("1970-01-01T00:00:00.000000001Z stdout F was here\n"), 0o600)
	if err := w.Reopen(); err != nil {
		t.Fatal(err)
	}
	w.Write(s, 1, []byte("appended\n"))
	if got := reassemble(t, read(t, path), DefaultMaxLine)["stdout"]; got != "was here\nappended\n" {
		t.Errorf("an existing file was not appended to: %q", got)
	}
}

func TestReopenFollowsAReplacedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	os.Mkdir(dir, 0o700)
	w, err := Open(dir+"/0.log", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	os.RemoveAll(dir)
	if err := w.Reopen(); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("directory missing: %v", err)
	}
	os.Mkdir(dir, 0o700)
	if err := w.Reopen(); err != nil {
		t.Fatal(err)
	}
	w.Write(NewStream(false), 1, []byte("x\n"))
	if !strings.HasSuffix(string(read(t, dir+"/0.log")), "stdout F x\n") {
		t.Error("the new directory has no log")
	}
}

// tinyDisk mounts a tmpfs of size bytes.
func tinyDisk(t *testing.T, size int) string {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatalf("mount tmpfs: %v (these tests run as root)", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func TestFullDiskCountsWhatIsLostAndMarksThePlace(t *testing.T) {
	dir := tinyDisk(t, 64<<10)
	w, err := Open(dir+"/0.log", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	s := NewStream(false)
	line := strings.Repeat("x", 999) + "\n"
	began := time.Now()
	for range 2000 {
		w.Write(s, 1, []byte(line))
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("2000 writes to a full disk took %v", took)
	}
	kept := reassemble(t, read(t, dir+"/0.log"), DefaultMaxLine)["stdout"]
	if w.Dropped == 0 || uint64(len(kept))+w.Dropped != w.BytesIn || w.Lines+w.DroppedLines != 2000 || w.LastError != syscall.ENOSPC {
		t.Fatalf("kept %d, counters %+v", len(kept), w.Counters)
	}
	os.Rename(dir+"/0.log", dir+"/0.log.1")
	if err := w.Reopen(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("reopen on a full disk: %v", err)
	}
	if _, err := os.Stat(dir + "/0.log"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a new file was left: %v", err)
	}
	dropped := w.Dropped
	os.Truncate(dir+"/0.log.1", 0)
	w.Write(s, 1, []byte("back\n"))
	want := fmt.Sprintf("stdout F [vitrine: %d bytes in %d lines are missing here: errno 28]", dropped, dropped/1000)
	if got := string(read(t, dir+"/0.log.1")); !strings.Contains(got, want) || !strings.HasSuffix(got, "stdout F back\n") {
		t.Errorf("got %.300q, want %q", got, want)
	}
	reassemble(t, read(t, dir+"/0.log.1"), DefaultMaxLine)
}

func TestReadOnlyFileSystemIsCountedAndNothingIsCreated(t *testing.T) {
	dir := tinyDisk(t, 1<<20)
	w, err := Open(dir+"/0.log", 0)
	if err != nil {
		t.Fatal(err)
	}
	os.Rename(dir+"/0.log", dir+"/0.log.1")
	w.Close() // a file open for writing keeps a file system from turning read-only
	if w, err = Open(dir+"/0.log.1", 0); err != nil {
		t.Fatal(err)
	}
	syscall.Close(w.fd)
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	w.fd, _ = syscall.Open(dir+"/0.log.1", syscall.O_RDONLY, 0) // writes fail
	w.path = dir + "/0.log"
	if err := w.Reopen(); !errors.Is(err, syscall.EROFS) {
		t.Errorf("reopen: %v", err)
	}
	w.Write(NewStream(false), 1, []byte("lost\n"))
	if w.Dropped != 5 || w.Errors != 1 {
		t.Errorf("counters %+v", w.Counters)
	}
	w.Close()
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	w, _ := open(t, 0)
	s := NewStream(false)
	data := bytes.Repeat([]byte("a line of some length that is quite ordinary\n"), 1000)
	if n := testing.AllocsPerRun(100, func() {
		w.Write(s, 1, data[:len(data)-10])
		w.Write(s, 1, data[len(data)-10:])
		w.Release(s)
	}); n != 0 {
		t.Errorf("%v allocations per write", n)
	}
}

func FuzzReassembly(f *testing.F) {
	f.Add([]byte("one\ntwo\r\n\x00three"), uint16(7), uint16(3))
	f.Fuzz(func(t *testing.T, input []byte, maxLine, chunk uint16) { // property: the stream comes back byte for byte, its last line ended
		w, path := open(t, 1+int(maxLine)%300)
		s := NewStream(false)
		for rest := input; len(rest) > 0; {
			n := min(len(rest), 1+int(chunk)%97)
			w.Write(s, 1, rest[:n])
			if rest = rest[n:]; len(rest)%5 == 0 {
				w.FlushPartial(s, 2)
			}
		}
		w.End(s, 3)
		got := reassemble(t, read(t, path), w.max)["stdout"]
		if want := ended(string(input)); got != want {
			t.Fatalf("%q came back as %q", input, got)
		}
	})
}

func BenchmarkLines(b *testing.B) {
	w, err := Open("/dev/shm/vitrine-logfile-bench", 0)
	if err != nil {
		b.Skip(err)
	}
	defer os.Remove("/dev/shm/vitrine-logfile-bench")
	data := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), 655)
	s := NewStream(false)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		w.Write(s, int64(i), data)
		if i%2000 == 1999 {
			syscall.Ftruncate(w.fd, 0)
		}
	}
}
