// Package launch is the contract with vitrine-launch, the short-lived process that
// needs libcontainer or an external OCI runtime: what it is asked, which file
// descriptors it is given, and what it answers.
//
// The request is JSON, written by the daemon and read by the launcher; the monitor
// between them passes it on unread. The reply is lines of text, so that the monitor
// can parse it without a decoder library (reply.go). This package holds types and
// the two codecs and nothing else; the work is in launch/libct.
package launch

// Op is what the launcher shall do.
type Op string

// The operations. Each is one run of the launcher.
const (
	// OpCreate makes the container from Bundle/config.json up to the point where its
	// init waits to execute the user's program. The new init is left without a
	// parent: the caller, a subreaper, inherits it.
	OpCreate Op = "create"
	// OpStart lets a container of an external runtime go. Native containers need no
	// run: their caller opens the exec fifo.
	OpStart Op = "start"
	// OpExec starts Process in a running container and leaves it to the caller, as OpCreate does.
	OpExec Op = "exec"
	// OpDelete removes what a runtime keeps of a container whose processes are gone:
	// state directory and cgroup. Processes that are left are killed. Absence is success.
	OpDelete Op = "delete"
	// OpWatch puts a new keeper in the place of one that was killed, with the streams of
	// the container; for shims only. It answers with the keeper's PID.
	OpWatch Op = "watch"
	// OpCheckpoint writes the processes of a running container into Criu.Images, as
	// criu(8) does, and lets them go on. A container whose cgroup was frozen stays frozen.
	OpCheckpoint Op = "checkpoint"
	// OpRestore is OpCreate with processes from Criu.Images in the place of a new init:
	// they are complete and stopped, none has run. OpStart with Criu set lets them go.
	OpRestore Op = "restore"
	// OpFeatures says what the runtime and the kernel under it can do, in
	// Reply.Features. It needs neither ID nor Bundle.
	OpFeatures Op = "features"
)

// File descriptors that the launcher is started with beside 0, 1 and 2, which are
// the standard streams of the process it starts.
const (
	// ReplyFD is the write end of a pipe for the Reply.
	ReplyFD = 3
	// ConsoleFD is one end of a SOCK_STREAM or SOCK_SEQPACKET socket pair to which
	// the pty's master is sent by SCM_RIGHTS (one byte of data, one descriptor) when
	// the process has a terminal. Without a terminal it is not open.
	ConsoleFD = 4
	// ExecFD is the write end of a pipe on which a native container's init says what
	// became of its execve; see ExecFifo. It is optional and for OpCreate only: where
	// it is not open, the init writes such an error to its standard error. (OpExec
	// waits for the execve itself and answers with its error.)
	ExecFD = 5
	// GateFD is the read end of a pipe. Where it is open, the launcher starts while its
	// request is still being written: it reads that only when a byte has come through
	// the pipe. End of file without one means that it is not wanted any more. A spare
	// launcher has a socket here; see AppendBrief.
	GateFD = 6
)

// StepWait is the name of the step in which the launcher waited for its request; it
// follows launch.init where GateFD was open, and is a spare's first.
const StepWait = "launch.wait"

// Environ is the environment that suits the launcher: it lives for milliseconds, so
// it collects no garbage, and one thread reads the init's progress while the other works.
func Environ() []string { return []string{"GOGC=off", "GOMAXPROCS=2"} }

// Request is what the launcher is asked. Its path is the launcher's only argument:
//
//	vitrine-launch REQUEST
type Request struct {
	Op Op     `json:"op"`
	ID string `json:"id"`
	// Bundle is the directory with config.json, an OCI runtime specification.
	Bundle string `json:"bundle"`
	// Root is the directory in which the runtime keeps its own state, a
	// sub-directory per container; on tmpfs.
	Root string `json:"root"`
	// Runtime says who does the work.
	Runtime Runtime `json:"runtime"`
	// Process is the OCI process of OpExec, as JSON.
	Process Document `json:"process,omitempty"`
	// Criu is for OpCheckpoint, OpRestore, and OpStart of what was restored.
	Criu *Criu `json:"criu,omitempty"`
	// SeccompCache is a directory of compiled filters, empty for none.
	SeccompCache string `json:"seccompCache,omitempty"`
	// Filters is a directory of seccomp filters as the kernel has them, for exec sessions
	// (package enter); empty for none.
	Filters string `json:"filters,omitempty"`
	// Enterer is the path of vitrine-enter, which makes ordinary containers for OpCreate;
	// empty leaves all to libcontainer.
	Enterer string `json:"enterer,omitempty"`
	// Bare is a mount namespace with the host's root, /proc and cgroups and nothing below them,
	// from which vitrine-enter makes containers; empty for the host's own. It may go away.
	Bare string `json:"bare,omitempty"`
}

// Criu is what checkpoints are made with. All paths are absolute.
type Criu struct {
	// Path is the program. Its name is criu, by which libcontainer and OCI runtimes look for it.
	Path string `json:"path"`
	// Images is the directory of the processes' state; it exists.
	Images string `json:"images"`
	// Work is a directory for criu's own log and statistics; it exists.
	Work string `json:"work"`
}

// Document is JSON that is passed on unread. It is json.RawMessage without the
// import, because the monitor links this package and must not link encoding/json.
type Document []byte

// MarshalJSON returns the document itself.
func (d Document) MarshalJSON() ([]byte, error) {
	if d == nil {
		return []byte("null"), nil
	}
	return d, nil
}

// UnmarshalJSON keeps a copy of the document.
func (d *Document) UnmarshalJSON(raw []byte) error {
	*d = append((*d)[:0], raw...)
	return nil
}

// TaskPID is the path of the file in which a shim's keeper leaves the container's own
// process id, in decimal: what the shim says it is. A shim with a virtual machine names
// a process of the machine's.
func TaskPID(bundle, id string) string { return bundle + "/shim/" + id + "/task" }

// KeeperKill is the signal at which a keeper, the process that stands for one at a
// shim, has that one killed: SIGKILL would end the keeper alone. It is SIGRTMAX. All other
// signals a keeper passes on; it never dies of one that can be caught.
const KeeperKill = 64

// Runtime is the part of a runtime handler that the launcher needs.
type Runtime struct {
	// Path is the OCI runtime binary; empty means libcontainer in the launcher itself.
	Path string `json:"path,omitempty"`
	// Args go before the sub-command of an external runtime.
	Args []string `json:"args,omitempty"`
	// SystemdCgroup selects the systemd cgroup driver.
	SystemdCgroup bool `json:"systemdCgroup,omitempty"`
	// Binary is the OCI runtime that containerd-shim-runc-v2 runs; empty is its own choice.
	Binary string `json:"binary,omitempty"`
	// ConfigPath is the configuration file of another shim.
	ConfigPath string `json:"configPath,omitempty"`
}

// ExecFifo is the path of the fifo at which the init of a native container created
// under root waits for its start. The caller of OpCreate lets it go so:
//
//  1. Open the fifo with O_RDONLY|O_NONBLOCK (which never blocks; the init's own open
//     for writing returns now) and wait until it is readable. Read one byte: the
//     init has passed the point of no return. The fifo may be unlinked.
//  2. Read the other end of ExecFD until end of file. Nothing before it: the kernel
//     has accepted the execve, because the init's end is close-on-exec. Anything
//     before it: the text is the error for ExecError, and the init has exited with
//     status 255 or is about to. Hooks of the kind startContainer run between 1 and 2.
//
// End of file on ExecFD before the byte of step 1 means that the init died while it
// waited; so the caller, who must close its own copy of ExecFD's write end right after
// spawning the launcher, waits for both descriptors together. The end of file of
// the fifo itself says nothing: the init closes it before it runs hooks and execve.
//
// Most failures are found earlier: the init looks the command up inside the rootfs,
// as the container's user, before OpCreate is answered, which then fails with
// KindNotFound or KindNotExecutable. What is left for ExecFD is what only execve
// knows: a wrong binary format, a missing interpreter, a failed startContainer hook.
func ExecFifo(root, id string) string { return root + "/" + id + "/exec.fifo" }
