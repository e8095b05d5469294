package checkpoint

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// changes is a root file system in which one file was changed and one deleted.
type changes struct{}

func (changes) SaveChanges(_ context.Context, _ string, to io.Writer) ([]string, error) {
	_, err := io.WriteString(to, "changed files")
	return []string{"etc/gone"}, err
}

// taken is a container whose processes criu has written down already.
func taken(t *testing.T) *Taken {
	t.Helper()
	dir := t.TempDir()
	s := &Taken{
		Sandbox: pod.Sandbox{ID: pod.NewID(), Config: pod.SandboxConfig{PodSandboxConfig: &runtime.PodSandboxConfig{}}},
		Container: pod.Container{
			ID: pod.NewID(), LogPath: filepath.Join(dir, "0.log"), Image: pod.ImageRef{ID: "the image"},
			Config: pod.ContainerConfig{ContainerConfig: &runtime.ContainerConfig{Metadata: &runtime.ContainerMetadata{Name: "web"}}},
		},
		Bundle: dir, Runtime: "libcontainer", Work: Work(filepath.Join(dir, "work")),
	}
	for _, d := range []string{s.Work.Images(), s.Work.Criu()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for file, content := range map[string]string{
		s.Container.LogPath:                                 "a line\n",
		filepath.Join(dir, "config.json"):                   `{"ociVersion":"1","process":{"cwd":"/","args":["sh"]},"root":{"path":"/"},"linux":{}}`,
		filepath.Join(s.Work.Images(), "inventory.img"):     "processes",
		filepath.Join(s.Work.Images(), "descriptors.json"):  `["/dev/null"]`,
		filepath.Join(s.Work.Criu(), "dump.log"):            "words",
		filepath.Join(dir, "beside the archive, not in it"): "",
		filepath.Join(string(s.Work), "request.json"):       "{}",
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestWhatIsWrittenIsTakenApartAgain(t *testing.T) {
	s, to := taken(t), t.TempDir()
	if err := errors.Join(s.Save(t.Context(), changes{}), s.Write(t.Context(), filepath.Join(to, "web"+Suffix))); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(to, "web"+Suffix)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the archive, which holds memory of processes: %v, %v", info.Mode(), err)
	}
	found, err := Open(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseAll(found)
	web := found["web"]
	if len(found) != 1 || web == nil || web.Image() != "the image" {
		t.Fatalf("found %v", found)
	}
	work := Work(t.TempDir())
	deleted, err := web.Unpack(t.Context(), work)
	if err != nil || !slices.Equal(deleted, []string{"etc/gone"}) {
		t.Errorf("deleted %q, %v", deleted, err)
	}
	for file, want := range map[string]string{filepath.Join(work.Images(), "inventory.img"): "processes", work.Changes(): "changed files"} {
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
}

func TestArchiveThatCannotBeWrittenLeavesNothing(t *testing.T) {
	s, to := taken(t), t.TempDir()
	if err := s.Save(t.Context(), changes{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Write(ctx, filepath.Join(to, "web"+Suffix)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(to); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestRequestOfAnotherProcessThanTheCheckpointsIsRefused(t *testing.T) {
	was := func() *specs.Spec {
		return &specs.Spec{
			Process: &specs.Process{Args: []string{"sh"}, Cwd: "/", Env: []string{"A=1", "HOSTNAME=one"}, Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}}},
			Root:    &specs.Root{Readonly: true},
			Mounts:  []specs.Mount{{Destination: "/data", Type: "bind", Source: "/one", Options: []string{"ro"}}},
			Linux:   &specs.Linux{MaskedPaths: []string{"/proc/kcore"}, Seccomp: &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}},
		}
	}
	s := &Snapshot{spec: *was()}
	same := was()
	same.Process.Env[1], same.Mounts[0].Source = "HOSTNAME=other", "/other" // another pod's name, another host's path
	if err := s.SameProcess(same); err != nil {
		t.Errorf("the same process elsewhere: %v", err)
	}
	for what, change := range map[string]func(*specs.Spec){
		"command":                    func(s *specs.Spec) { s.Process.Args = []string{"sh", "-c"} },
		"environment":                func(s *specs.Spec) { s.Process.Env = []string{"A=2"} },
		"user":                       func(s *specs.Spec) { s.Process.User.UID = 1 },
		"capabilities":               func(s *specs.Spec) { s.Process.Capabilities = nil },
		"no_new_privs":               func(s *specs.Spec) { s.Process.NoNewPrivileges = true },
		"read-only root file system": func(s *specs.Spec) { s.Root.Readonly = false },
		"masked paths":               func(s *specs.Spec) { s.Linux.MaskedPaths = nil },
		"seccomp profile":            func(s *specs.Spec) { s.Linux.Seccomp = nil },
		"mounts":                     func(s *specs.Spec) { s.Mounts[0].Options = []string{"rw"} },
	} {
		asked := was()
		change(asked)
		if err := s.SameProcess(asked); !errors.Is(err, pod.ErrInvalid) || err.Error() != pod.ErrInvalid.Error()+": the request's "+what+" is not the checkpoint's" {
			t.Errorf("%s: got %v", what, err)
		}
	}
}
