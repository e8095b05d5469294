package cgroup_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/pod"
)

func TestMadeContainerIsKnownByTheIDItKeeps(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	c, err := cgroup.New(cgroup.Config{Driver: cgroup.Cgroupfs})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	parent := fmt.Sprintf("/vitrine-oom-%d", os.Getpid())
	path := parent + "/c"
	t.Cleanup(func() {
		if err := errors.Join(c.Remove(path), c.Remove(parent)); err != nil {
			t.Error(err)
		}
	})
	if _, err := c.OOMCounts(path); !errors.Is(err, pod.ErrNotFound) {
		t.Errorf("counts of no cgroup: %v", err)
	}
	id, err := c.MakeContainer(path)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.MakeContainer(path); err != nil || again != id {
		t.Errorf("made again: %d, %v, was %d", again, err, id)
	}
	if same, err := c.ID(path); err != nil || same != id {
		t.Errorf("id %d, %v, was %d", same, err, id)
	}
	if counts, err := c.OOMCounts(path); err != nil || counts.Kills != 0 || counts.GroupKills != 0 {
		t.Errorf("a new cgroup counts %+v, %v", counts, err)
	}
	for _, bad := range []string{"/", ""} {
		if _, err := c.MakeContainer(bad); !errors.Is(err, pod.ErrInvalid) {
			t.Errorf("MakeContainer(%q): %v", bad, err)
		}
	}
}
