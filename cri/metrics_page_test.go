package cri

import (
	"bytes"
	"io"
	"strconv"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/lifecycle"
)

func TestPageForgetsTheLabelsOfWhatHasGone(t *testing.T) {
	var page containerPage
	one := func(id string) *subject { return &subject{labels: []string{"/c", id, "", "", "shop", "web"}} }
	for n := range 100 {
		if err := page.write(io.Discard, []*subject{one("stays"), one(strconv.Itoa(n))}); err != nil {
			t.Fatal(err)
		}
	}
	if len(page.labels) != 2 {
		t.Errorf("the labels of %d are kept, 2 are there", len(page.labels))
	}
	for n := range maxExtras + 10 {
		page.extra(families[0], []string{strconv.Itoa(n)})
	}
	if len(page.extras) > maxExtras {
		t.Errorf("%d encoded label values are kept", len(page.extras))
	}
}

func TestPageFaultsOfV2HaveTheScopesThatAreKnown(t *testing.T) {
	scopes := func(s *subject) (all string) {
		s.CgroupStats = lifecycle.CgroupStats{Memory: &cgroup.MemoryStats{PageFaults: 9, MajorPageFaults: 2}}
		faults(s, func(raw uint64, values ...string) {
			all += values[0] + "/" + values[1] + "=" + strconv.FormatUint(raw, 10) + " "
		})
		return all
	}
	if got := scopes(&subject{container: &lifecycle.Stats{}}); got != "pgfault/container=9 pgmajfault/container=2 pgfault/hierarchy=9 pgmajfault/hierarchy=2 " {
		t.Errorf("container: %s", got)
	}
	if got := scopes(&subject{}); got != "pgfault/hierarchy=9 pgmajfault/hierarchy=2 " {
		t.Errorf("pod: %s", got)
	}
}

// A scraper that does not read delays no other.
func TestPagesAreWrittenSideBySide(t *testing.T) {
	var page containerPage
	subjects := []*subject{{labels: []string{"/pod/c", "c1", "image", "c", "ns", "pod"}, at: time.Now(), started: time.Now()}}
	blocked, release, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- page.write(writerFunc(func(b []byte) (int, error) {
			close(blocked)
			<-release
			return len(b), nil
		}), subjects)
	}()
	<-blocked
	var other bytes.Buffer
	if err := page.write(&other, subjects); err != nil || other.Len() == 0 {
		t.Errorf("%d bytes, %v", other.Len(), err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(b []byte) (int, error) { return w(b) }
