package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
	"github.com/vitrine-runtime/vitrine/telemetry/history"
	"github.com/vitrine-runtime/vitrine/telemetry/why"
)

// lookBound is how long looking at one container may take; its monitor may hang.
const lookBound = time.Second

// why answers GET /v1/why?subject=POD|CONTAINER|IMAGE with a why.Verdict.
func (d *daemon) why(w http.ResponseWriter, r *http.Request) {
	evidence, err := d.telemetry.Evidence(r.Context(), r.FormValue("subject"), d.node())
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, why.Judge(evidence))
}

// lives answers GET /v1/lives?subject=… with the lives of the containers that it means,
// each a waterfall.Trace of one span; see telemetry.Lives. Of a subject that has none, or
// is not known, the list is empty.
func (d *daemon) lives(w http.ResponseWriter, r *http.Request) {
	lives, err := d.telemetry.Lives(r.Context(), r.FormValue("subject"), d.node())
	if err != nil && !errors.Is(err, pod.ErrNotFound) {
		refuse(w, err)
		return
	}
	if lives == nil {
		lives = []*telemetry.Trace{}
	}
	answer(w, lives)
}

// node is what the telemetry room asks about the pods that exist.
func (d *daemon) node() telemetry.Node {
	return telemetry.Node{Sandboxes: d.pods.Sandboxes, Containers: d.pods.Containers, Inspect: d.inspect}
}

// history answers GET /v1/history?subject=…: everything that is kept of it, or of
// the whole node without one, one JSON object per line.
func (d *daemon) history(w http.ResponseWriter, r *http.Request) {
	entries, err := d.telemetry.History(r.Context(), r.FormValue("subject"))
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	encoder := json.NewEncoder(w)
	for _, e := range entries {
		if encoder.Encode(e) != nil {
			return
		}
	}
}

// inspect looks at a container that exists.
func (d *daemon) inspect(ctx context.Context, c pod.Container, into *why.Container) {
	ctx, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	if c.State == pod.Running || c.State == pod.Stopping {
		live := d.pods.Look(ctx, c.ID)
		into.Process, into.Wait, into.Monitor = live.Process, live.Wait, live.Monitor
		into.Zombies = live.Zombies
		into.LogBytes, into.LogDropped = live.LogBytes, live.LogDropped
		into.Frozen = d.frozen(c)
		into.LogGone = gone(ctx, c.LogPath)
	}
	if ledger, lost := d.pods.Denials(ctx, c); len(ledger) > 0 {
		into.Denials, into.AllDenials = ledger, len(ledger)+int(min(lost, 1<<30))
	}
	into.Figures = fill(d.figures(ctx, c), into.Figures)
}

// gone says that a log is not there any more under its name. Looking may take as long as
// its file system hangs, and is not waited for beyond ctx.
func gone(ctx context.Context, path string) bool {
	if path == "" {
		return false
	}
	found := make(chan error, 1)
	go func() { // ends with the call; nobody waits for one that hangs
		_, err := os.Lstat(path)
		found <- err
	}()
	select {
	case err := <-found:
		return errors.Is(err, fs.ErrNotExist)
	case <-ctx.Done():
		return false
	}
}

// fullBelow is how much room a file system must have not to count as full, in bytes; of a
// small one a twentieth is enough.
const fullBelow = 1 << 20

// maxPlaces bounds the places of one container that are looked at.
const maxPlaces = 64

// full names the places that a container writes to and that have no room. A file system
// that does not answer within lookBound keeps the rest from being told.
func (d *daemon) full(ctx context.Context, c pod.Container) string {
	places := d.pods.Places(c)
	found := make(chan string, maxPlaces)
	go func() { // ends with the calls; nobody waits for one that hangs
		defer close(found)
		for _, p := range places[:min(len(places), maxPlaces)] {
			found <- noRoom(p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	var lacking []string
	for {
		select {
		case text, more := <-found:
			if !more {
				return strings.Join(lacking, ", ")
			}
			if text != "" && !slices.Contains(lacking, text) {
				lacking = append(lacking, text)
			}
		case <-ctx.Done():
			return strings.Join(lacking, ", ")
		}
	}
}

// noRoom says that a place's file system takes no more bytes, or no more files; empty: it does.
func noRoom(p lifecycle.Place) string {
	var st unix.Statfs_t
	if p.Path == "" || unix.Statfs(p.Path, &st) != nil || st.Blocks == 0 || st.Flags&unix.ST_RDONLY != 0 {
		return ""
	}
	size := st.Blocks * uint64(st.Bsize)
	switch free := st.Bavail * uint64(st.Bsize); {
	case free < min(fullBelow, size/20):
		return fmt.Sprintf("the file system of %s has %d KiB left", p.Name, free>>10)
	case st.Files > 0 && st.Ffree == 0:
		return "the file system of " + p.Name + " can hold no more files"
	}
	return ""
}

// frozen says which cgroup a container stands still for; empty when it does not, or has
// ended meanwhile.
func (d *daemon) frozen(c pod.Container) string {
	if c.Cgroup == "" {
		return ""
	}
	frozen, itself, err := d.cgroups.Frozen(c.Cgroup)
	switch {
	case err != nil || !frozen:
		return ""
	case itself:
		return "its cgroup"
	}
	return "a cgroup above its own"
}

// maxDelays bounds the processes of one container whose waiting is read.
const maxDelays = 64

// runDelay is the longest time that a process of the cgroup has waited for a CPU, by
// /proc/PID/schedstat (kernel Documentation/scheduler/sched-stats.rst).
func (d *daemon) runDelay(path string) (longest time.Duration) {
	pids, err := d.cgroups.Procs(path)
	if err != nil {
		return 0 // removed meanwhile
	}
	for _, pid := range pids[:min(len(pids), maxDelays)] {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
		var ran, waited int64
		if _, scanErr := fmt.Sscan(string(raw), &ran, &waited); err == nil && scanErr == nil {
			longest = max(longest, time.Duration(waited))
		}
	}
	return longest
}

// fill takes what now lacks from what was kept at the exit, when the cgroup was whole.
func fill(now, kept history.Figures) history.Figures {
	if now.Periods == 0 && now.CPU == 0 && now.MemoryPeak == 0 {
		output, full, refused := now.Output, now.Full, now.Refused
		now = kept
		now.Output, now.Full, now.Refused = cmp.Or(output, kept.Output), cmp.Or(full, kept.Full), cmp.Or(refused, kept.Refused)
	}
	now.OOMKills = max(now.OOMKills, kept.OOMKills)
	now.ThreadFailures = max(now.ThreadFailures, kept.ThreadFailures)
	return now
}

// figures reads what a container's cgroup has counted and, of one that failed, the end
// of its log.
func (d *daemon) figures(ctx context.Context, c pod.Container) history.Figures {
	var f history.Figures
	if x := c.Exit; x != nil && x.Code != 0 {
		f.Output, f.Full = lastWords(c.LogPath), d.full(ctx, c)
		f.Refused = refusedIn(f.Output, func(path string) string { return d.pods.RefusedDevice(c, path) })
	}
	if c.Cgroup == "" {
		return f
	}
	stats, err := d.cgroups.Stats(c.Cgroup)
	if err != nil {
		return f // removed; what was kept at the exit is used
	}
	if cpu := stats.CPU; cpu != nil {
		f.CPU, f.Periods, f.ThrottledPeriods = time.Duration(cpu.Usage), cpu.Periods, cpu.ThrottledPeriods
		f.Throttled = time.Duration(cpu.ThrottledTime)
		if cpu.PSI != nil {
			f.CPUStall = time.Duration(cpu.PSI.Some.Total)
		}
	}
	if c.State == pod.Running {
		// What its own limit makes it wait is told as throttling.
		f.RunDelay = max(0, d.runDelay(c.Cgroup)-f.Throttled)
	}
	if m := stats.Memory; m != nil {
		f.MemoryHigh, f.MajorFaults, f.MemoryFiles = m.HighEvents, m.MajorPageFaults, m.Shmem
		f.MemoryPeak, f.MemoryLimit, f.MemoryFailures, f.OOMKills = m.MaxUsage, m.Limit, m.FailCount, m.OOMKills
		if m.PSI != nil {
			f.MemoryStall = time.Duration(m.PSI.Some.Total)
		}
	}
	if p := stats.Pids; p != nil {
		f.Threads, f.ThreadLimit, f.ThreadFailures = p.Threads, p.Limit, p.Refused
	}
	if i := stats.IO; i != nil && i.PSI != nil {
		f.IOStall = time.Duration(i.PSI.Some.Total)
	}
	return f
}

var (
	notPermitted = regexp.MustCompile(`(?i)operation not permitted|EPERM`)
	paths        = regexp.MustCompile(`/[^\s'":,;()]+`)
)

// maxPaths bounds the paths of last words that are looked at.
const maxPaths = 8

// refusedIn asks of the paths in last words that tell of something not permitted, the last
// line first, and returns the first answer.
func refusedIn(words string, why func(path string) string) string {
	lines, asked := strings.Split(words, "\n"), 0
	for _, line := range slices.Backward(lines) {
		if !notPermitted.MatchString(line) {
			continue
		}
		for _, path := range paths.FindAllString(line, maxPaths) {
			if asked++; asked > maxPaths {
				return ""
			}
			if text := why(path); text != "" {
				return text
			}
		}
	}
	return ""
}

// maxWords bounds the last words of a container, in bytes.
const maxWords = 1024

// lastWords are the last lines of a log in the format of the CRI, without times; empty
// when it cannot be read.
func lastWords(path string) string {
	if path == "" {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	raw := make([]byte, 8<<10)
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	n, err := f.ReadAt(raw, max(0, info.Size()-int64(len(raw))))
	if err != nil && err != io.EOF {
		return ""
	}
	var words []string
	for line := range bytes.Lines(raw[:n]) {
		// TIME STREAM TAG CONTENT; the first line may be cut.
		if parts := strings.SplitN(strings.TrimRight(string(line), "\n"), " ", 4); len(parts) == 4 && (parts[1] == "stdout" || parts[1] == "stderr") {
			words = append(words, parts[3])
		}
	}
	text := strings.Join(words, "\n")
	if len(text) > maxWords {
		text = strings.ToValidUTF8(text[len(text)-maxWords:], "")
	}
	return text
}
