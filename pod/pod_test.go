package pod

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestParseIDAcceptsOnlyWhatNewIDProduces(t *testing.T) {
	id := NewID()
	if got, err := ParseID(string(id)); err != nil || got != id {
		t.Fatalf("ParseID(NewID()) = %q, %v", got, err)
	}
	for _, bad := range []string{"", "abc", strings.ToUpper(string(id)), string(id) + "0", "../" + string(id[3:])} {
		if _, err := ParseID(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseID(%q) = %v, want ErrInvalid", bad, err)
		}
	}
}

func TestEveryStateIsReachableAndEndsInRemoval(t *testing.T) {
	for name, table := range map[string]map[State][]State{"sandbox": sandboxMoves, "container": containerMoves} {
		seen := map[State]bool{}
		var walk func(State)
		walk = func(s State) {
			if seen[s] {
				return
			}
			seen[s] = true
			for _, to := range table[s] {
				walk(to)
			}
		}
		walk(Creating)
		for from := range table {
			if !seen[from] {
				t.Errorf("%s: state %s cannot be reached from creating", name, from)
			}
		}
		if !seen[Removing] {
			t.Errorf("%s: removal cannot be reached", name)
		}
		if len(table[Removing]) != 0 {
			t.Errorf("%s: something follows removal", name)
		}
	}
}

func TestIllegalMoveNamesBothStates(t *testing.T) {
	err := CheckContainerMove(Exited, Running)
	if !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "exited to running") {
		t.Fatalf("got %v", err)
	}
}

func TestStoreReturnsWhatWasPutWithUnknownFields(t *testing.T) {
	store, err := OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	config := &runtime.PodSandboxConfig{Metadata: &runtime.PodSandboxMetadata{Name: "web", Namespace: "shop", Uid: "u", Attempt: 2}}
	config.ProtoReflect().SetUnknown([]byte{0xfa, 0x7f, 0x01, 'x'}) // field 2047, as a newer kubelet might send
	sb := Sandbox{ID: NewID(), State: Ready, Config: SandboxConfig{config}, CreatedAt: time.Now()}
	c := Container{ID: NewID(), SandboxID: sb.ID, State: Exited, Config: ContainerConfig{&runtime.ContainerConfig{}},
		Exit: &Exit{Code: 137, Signal: 9, Source: "monitor"}}
	if err := errors.Join(store.PutSandbox(sb), store.PutContainer(c)); err != nil {
		t.Fatal(err)
	}
	sandboxes, containers, damaged, err := store.Load()
	if err != nil || len(damaged) != 0 || len(sandboxes) != 1 || len(containers) != 1 {
		t.Fatalf("Load = %d sandboxes, %d containers, damaged %v, %v", len(sandboxes), len(containers), damaged, err)
	}
	if got := sandboxes[0]; got.Key() != sb.Key() || !proto.Equal(got.Config, sb.Config) || !got.CreatedAt.Equal(sb.CreatedAt) {
		t.Errorf("sandbox came back as %+v", got)
	}
	if got := containers[0]; got.State != Exited || *got.Exit != *c.Exit {
		t.Errorf("container came back as %+v", got)
	}
	if err := errors.Join(store.DeleteSandbox(sb.ID), store.DeleteContainer(c.ID), store.DeleteContainer(c.ID)); err != nil {
		t.Errorf("delete: %v", err)
	}
}

func TestDamagedRecordsAreReportedAndNotBelieved(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"truncated":     func(b []byte) []byte { return b[:len(b)-3] },
		"bit flipped":   func(b []byte) []byte { b[len(b)-5] ^= 1; return b },
		"empty":         func([]byte) []byte { return nil },
		"newer version": func(b []byte) []byte { return []byte(strings.Replace(string(b), "record 1", "record 9", 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			store, _ := OpenStore(t.TempDir())
			sb := Sandbox{ID: NewID(), State: Ready, Config: SandboxConfig{&runtime.PodSandboxConfig{}}}
			if err := store.PutSandbox(sb); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(store.SandboxDir(sb.ID), "record")
			raw, _ := os.ReadFile(path)
			if err := os.WriteFile(path, spoil(raw), 0o600); err != nil {
				t.Fatal(err)
			}
			sandboxes, _, damaged, err := store.Load()
			if err != nil || len(sandboxes) != 0 || len(damaged) != 1 || damaged[0].ID != sb.ID {
				t.Fatalf("Load = %v, damaged %v, %v", sandboxes, damaged, err)
			}
		})
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte("vitrine-record 1 00000000 0\n"))
	f.Fuzz(func(t *testing.T, raw []byte) { // property: never panics, never believes a body without its sum
		var c Container
		_ = decodeRecord("x", raw, &c)
	})
}
