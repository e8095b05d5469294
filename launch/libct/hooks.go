package libct

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// timeHooks replaces hooks of the given kinds, which this process will run itself, by
// ones that also report their time as a step of their own, oci.hook.KIND.NAME. Libcontainer
// leaves the replaced ones out of the files it writes: not for kinds that another
// process runs. The time between the step before and the first hook is called gap.
func (j *job) timeHooks(hooks configs.Hooks, gap string, kinds ...configs.HookName) {
	for _, kind := range kinds {
		for i, hook := range hooks[kind] {
			if command, ok := hook.(configs.CommandHook); ok {
				hooks[kind][i] = configs.NewFunctionHook(func(state *specs.State) error {
					j.line.endGap(gap)
					defer j.line.end(hookStep(kind, command.Path))
					return command.Run(state)
				})
			}
		}
	}
}

// hookStep is the name of a hook's step. A kind has no dot in it, a program may.
func hookStep(kind configs.HookName, path string) string {
	return hookPrefix + string(kind) + "." + strings.Join(strings.Fields(filepath.Base(path)), "_")
}

const hookPrefix = "oci.hook."

// hookPoll is how often the init is asked for a new child, which bounds how wrong the
// border between two hooks can be.
const hookPoll = 200 * time.Microsecond

// watchHooks times the createContainer hooks, which the init runs one after another inside
// the container, from the outside: each is a child of the init's main thread, and a pidfd
// tells when it ends. Without CONFIG_PROC_CHILDREN they stay part of libct.pivot. It returns
// when all have ended or stop is closed.
func (t *timeline) watchHooks(init int, hooks configs.HookList, stop <-chan struct{}) {
	children := fmt.Sprintf("/proc/%d/task/%d/children", init, init)
	seen := map[string]bool{}
	for _, hook := range hooks {
		command, ok := hook.(configs.CommandHook)
		if !ok {
			return
		}
		for found := false; !found; {
			raw, err := os.ReadFile(children)
			if err != nil {
				return
			}
			for _, child := range strings.Fields(string(raw)) {
				if !seen[child] {
					seen[child] = true
					if found = awaitExit(child, init, stop); found {
						t.end(hookStep(configs.CreateContainer, command.Path))
						break
					}
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(hookPoll):
			}
		}
	}
}

// awaitExit returns when the child has ended or stop is closed. It reports whether the child
// had executed a program: the Go runtime of the init makes a first child only to learn
// what the kernel can do.
func awaitExit(child string, init int, stop <-chan struct{}) (executed bool) {
	number, err := strconv.Atoi(child)
	if err != nil {
		return false
	}
	fd, err := unix.PidfdOpen(number, 0)
	if err != nil {
		return false // it is gone
	}
	defer unix.Close(fd)
	own, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", init))
	for timeout := 0; ; {
		if !executed {
			exe, err := os.Readlink("/proc/" + child + "/exe")
			if executed = err == nil && exe != own; executed {
				timeout = 10 // ms, how often stop is looked at
			} else {
				time.Sleep(hookPoll / 4)
			}
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, timeout)
		if n > 0 || (err != nil && err != unix.EINTR) {
			return executed
		}
		select {
		case <-stop:
			return executed
		default:
		}
	}
}

// hookNumber is how libcontainer names the hook that failed.
const hookNumber = `error running (\w+) hook #(\d+): `

// nameHook puts the path of the hook that failed into an error's text, and says which
// step that was; any other text it returns unchanged and without a step.
func nameHook(text string, spec *specs.Spec) (named, step string) {
	m := regexp.MustCompile(hookNumber).FindStringSubmatchIndex(text)
	if m == nil || spec == nil || spec.Hooks == nil {
		return text, ""
	}
	kind := text[m[2]:m[3]]
	number, err := strconv.Atoi(text[m[4]:m[5]])
	list := map[string][]specs.Hook{
		"prestart":      spec.Hooks.Prestart, //nolint:staticcheck // deprecated and still in use
		"createRuntime": spec.Hooks.CreateRuntime, "createContainer": spec.Hooks.CreateContainer,
		"startContainer": spec.Hooks.StartContainer, "poststart": spec.Hooks.Poststart, "poststop": spec.Hooks.Poststop,
	}[kind]
	if err != nil || number >= len(list) {
		return text, ""
	}
	path := list[number].Path
	cause := strings.Replace(text[m[1]:], ", stdout: ", ": ", 1)
	cause = strings.Replace(cause, ": , stderr: ", ": ", 1)
	return kind + " hook " + path + ": " + strings.TrimRight(cause, ": \n"), hookStep(configs.HookName(kind), path)
}
