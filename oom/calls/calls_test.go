package calls_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/oom/calls"
	"github.com/vitrine-runtime/vitrine/pod"
)

func TestSinceIsWhatCameBetween(t *testing.T) {
	before := []calls.Count{{Number: 1, Calls: 5, Errors: 1, Latency: []uint64{1, 2}}, {Number: 2, Calls: 7}}
	now := []calls.Count{{Number: 1, Calls: 9, Errors: 2, Latency: []uint64{1, 5}}, {Number: 2, Calls: 7}, {Number: 3, Calls: 1, Refused: 1}}
	got := calls.Since(before, now)
	if len(got) != 2 || got[0].Calls != 4 || got[0].Errors != 1 || !slices.Equal(got[0].Latency, []uint64{0, 3}) || got[1].Number != 3 || got[1].Refused != 1 {
		t.Errorf("%+v", got)
	}
	if now[0].Latency[1] != 5 {
		t.Error("the later look was changed")
	}
}

func TestRecordIsOrderedAndHasQuantiles(t *testing.T) {
	latency := make([]uint64, 36)
	latency[10], latency[20] = 98, 2
	list := calls.Record([]calls.Count{{Number: unix.SYS_READ, Calls: 5}, {Number: unix.SYS_WRITE, Calls: 100, Errors: 3, Latency: latency}})
	w := list[0]
	if w.Name != "write" || w.Errors != 3 || w.Samples != 100 || len(w.Buckets) != 21 || w.P50 != 2048 || w.P99 != 1<<21 || list[1].Samples != 0 {
		t.Errorf("%+v", list)
	}
}

func TestProfileOfARecordIsThatOfItsCounts(t *testing.T) {
	counted := []calls.Count{{Number: unix.SYS_GETPPID, Calls: 2}, {Number: unix.SYS_CLONE3, Calls: 1, Errors: 1, Refused: 1, Answer: unix.ENOSYS}}
	want, err := ebpf.Profile(counted)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(pod.Syscalls{Learned: true, Calls: calls.Record(counted)})
	if err != nil {
		t.Fatal(err)
	}
	var learned pod.Syscalls
	if err := json.Unmarshal(raw, &learned); err != nil {
		t.Fatal(err)
	}
	have, err := calls.Profile(learned)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(want)
	b, _ := json.Marshal(have)
	if string(a) != string(b) || !strings.Contains(string(a), "getppid") {
		t.Errorf("have %s, want %s", b, a)
	}
	for _, not := range []pod.Syscalls{{}, {Learned: true, Calls: []pod.Syscall{{Number: ebpf.OtherSyscalls, Calls: 1}}}} {
		if _, err := calls.Profile(not); !errors.Is(err, pod.ErrUnsupported) {
			t.Errorf("%+v: %v", not, err)
		}
	}
}

func TestRecordedCallsReadAsTheyWereMade(t *testing.T) {
	now := time.Unix(1000, 0)
	r := calls.Recorded(calls.Flight{Missed: 3, Calls: []ebpf.Call{
		{Time: 9 * time.Second, Number: unix.SYS_OPENAT, Arguments: [3]uint64{1<<64 - 100, 0xc000, 0}, Result: -int64(unix.ENOENT), TID: 7, Comm: "app"},
		{Time: 10 * time.Second, Number: unix.SYS_FUTEX, Unfinished: true, TID: 8, Comm: "app"},
	}}, now, 11*time.Second)
	if r.Missed != 3 || !r.Calls[0].At.Equal(now.Add(-2*time.Second)) {
		t.Errorf("%+v", r)
	}
	for i, want := range []string{"openat(0xffffffffffffff9c, 0xc000, 0x0) = -1 ENOENT", "futex() never returned"} {
		if have := r.Calls[i].String(); have != want {
			t.Errorf("have %q, want %q", have, want)
		}
	}
}
