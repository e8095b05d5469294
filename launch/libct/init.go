package libct

import (
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // stage 0 to 2 of an init, before the Go runtime
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// statusFD is where an init finds the write end of the pipe for the error of its
// execve: the first of libcontainer's extra files. It is close-on-exec.
const statusFD = 3

// debugLevel is logrus.DebugLevel as libcontainer passes it on.
const debugLevel = "5"

// Init is the container's side: it becomes the user's program and does not return.
// It must run before main, in the process that libcontainer has started with the
// argument "init".
func Init() {
	debug.SetGCPercent(-1)
	m := &marker{}
	if hasStatus() {
		m.status = os.NewFile(statusFD, "status")
	}
	logrus.AddHook(m)
	keepOrphans()
	tellFilters()
	libcontainer.Init()
}

// keepOrphans makes the process of an exec session, not a container's first, the new
// parent of descendants that lose theirs. What daemonises itself with setsid and two
// forks then still is a descendant when the session is killed (monitor/kill.go), as long as
// the process that was asked for lives, and is PID 1's after it as ever. The mark
// outlives the execve and is not inherited by children (PR_SET_CHILD_SUBREAPER(2const)).
func keepOrphans() {
	if os.Getenv("_LIBCONTAINER_INITTYPE") == "setns" {
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // every kernel since 3.4 has it
	}
}

// hasStatus tells whether an extra file was passed: libcontainer numbers its own
// descriptors behind the extra files, the console's first.
func hasStatus() bool {
	first := os.Getenv("_LIBCONTAINER_CONSOLE")
	if first == "" {
		first = os.Getenv("_LIBCONTAINER_INITPIPE")
	}
	return first == strconv.Itoa(statusFD+1)
}

// marker watches the init's debug messages: it stamps those that mark progress with
// the time and drops the rest. It never decides anything that the container's security
// rests on: a message that a newer libcontainer words differently costs a step in a
// trace and a late error's readable form.
type marker struct {
	status  *os.File
	stamped bool
}

// Levels makes logrus call Fire for every message.
func (m *marker) Levels() []logrus.Level { return logrus.AllLevels }

// Fire is called before a message is formatted.
func (m *marker) Fire(e *logrus.Entry) error {
	if !m.stamped { // libcontainer sets its own formatter right before its first message
		m.stamped = true
		logrus.SetFormatter(&stampFormat{})
		logrus.SetOutput(quiet{logrus.StandardLogger().Out})
	}
	if m.status != nil && (strings.HasPrefix(e.Message, lastInit) || strings.HasPrefix(e.Message, lastExec)) {
		// From here on libcontainer can report an error only by printing it to
		// os.Stderr; the file is not used for anything else any more.
		os.Stderr = m.status
	}
	return nil
}

// The last messages of an init and of an exec session's process; libcontainer's log
// ends with them.
const (
	lastInit = "init: about to wait on exec fifo"
	lastExec = "setns_init: about to exec"
)

// stampFormat writes messages as libcontainer's parent side expects them, a JSON
// object per line. A debug message becomes "@NANOSECONDS MESSAGE".
type stampFormat struct{ json logrus.JSONFormatter }

// Format returns nothing for messages that nobody reads.
func (f *stampFormat) Format(e *logrus.Entry) ([]byte, error) {
	if e.Level != logrus.DebugLevel {
		return f.json.Format(e)
	}
	text := progress(e.Message)
	if text == "" {
		return nil, nil
	}
	line := append(make([]byte, 0, 96), `{"level":"debug","msg":"@`...)
	line = strconv.AppendInt(line, time.Now().UnixNano(), 10)
	line = append(line, ' ')
	line = append(line, text...)
	return append(line, `"}`+"\n"...), nil
}

// quiet spares the log pipe empty writes, and the user's standard error logrus's complaint
// about a pipe that libcontainer has closed before its own last message.
type quiet struct{ io.Writer }

// Write never fails.
func (q quiet) Write(p []byte) (int, error) {
	if len(p) > 0 {
		_, _ = q.Writer.Write(p)
	}
	return len(p), nil
}

// progress returns the constant part of a message that marks progress, a message with a
// compiled filter whole, and nothing of any other.
func progress(message string) string {
	if strings.HasPrefix(message, filterMark) {
		return message
	}
	for _, mark := range initMarks {
		if strings.HasPrefix(message, mark) {
			return mark
		}
	}
	return ""
}

// initMarks are the messages of an init that timeline.go knows.
var initMarks = []string{
	"child process in init()",
	"writing sync type:procHooks",
	"read sync type:procHooksDone",
	"writing sync type:procReady",
	"read sync type:procRun",
	begunMark,
	"init: closing the pipe",
	lastExec,
}
