package libct

import (
	"cmp"
	"errors"
	"regexp"
	"strings"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/vitrine-runtime/vitrine/launch"
)

// errGone is the answer for a container without a running init.
var errGone = &launch.Error{Step: "libct.load", Kind: launch.KindGone, Message: "container is not running"}

// invalid makes an error of kind KindInvalid, except where err already has a kind.
func invalid(step string, err error) error {
	var typed *launch.Error
	if errors.As(err, &typed) {
		return err
	}
	if errors.Is(err, libcontainer.ErrExist) {
		err = errors.New("a container with this id exists already")
	}
	return &launch.Error{Step: step, Kind: launch.KindInvalid, Message: err.Error()}
}

// maxMessage bounds a message, in bytes: hooks put their output into it.
const maxMessage = 2048

// fault makes the answer's error of err: one readable line with the cause, the step in
// which it arose and its kind.
func (j *job) fault(err error) *launch.Error {
	var typed *launch.Error
	if errors.As(err, &typed) {
		return typed
	}
	text, step := nameHook(err.Error(), j.container)
	text = clean(text)
	step = cmp.Or(step, j.failed, "libct.config")
	if lookup := launch.LookupError(text); lookup != nil {
		lookup.Step = step
		return lookup
	}
	e := &launch.Error{Step: step, Kind: launch.KindInternal, Message: text}
	for _, c := range classes {
		pattern := regexp.MustCompile(c.pattern)
		if m := pattern.FindStringSubmatchIndex(text); m != nil {
			e.Kind = c.kind
			if c.message != "" {
				e.Message = string(pattern.ExpandString(nil, c.message, text, m))
			}
			break
		}
	}
	e.Message = j.nameMount(e.Message)
	if len(e.Message) > maxMessage {
		e.Message = e.Message[:maxMessage] + "…"
	}
	return e
}

// classes are errors of libcontainer that the caller can do something about, by their
// text: across its pipe from the init there is nothing else. Expressions are compiled
// when an error needs them, not at the start of every process.
var classes = []struct {
	pattern string
	kind    launch.Kind
	message string // empty: as it is
}{
	{`OOM-killed`, launch.KindInvalid, "the memory limit is too low to start the container: its init was killed for want of memory"},
	{`chdir to cwd \("(.*)"\) set in config.json failed: (.*)`, launch.KindInvalid, `working directory "$1": $2`},
	{`failed to fulfil mount request: open (.*): (no such file or directory|not a directory)$`, launch.KindInvalid, `mount source "$1": $2`},
	{`error mounting "(.*)" to rootfs at "(.*)": .*?((?:no such file or directory|not a directory|invalid argument|no such device|file exists|too many levels of symbolic links).*)$`, launch.KindInvalid, `mount "$1" on "$2": $3`},
	{`error mounting "(.*)" to rootfs at "(.*)": (.*)$`, launch.KindInternal, `mount "$1" on "$2": $3`},
	{`namespace path: lstat (\S+): (no such file or directory|not a directory)`, launch.KindInvalid, "namespace $1: $2"},
	{`^mkdir (.*): (not a directory|read-only file system|file exists)$`, launch.KindInvalid, `working directory "$1": $2`},
	{`unable to set memory limit to`, launch.KindInvalid, ""},
	{`failed to open (\S+): (No such file or directory)`, launch.KindInvalid, "namespace $1: no such file or directory"},
	{`(sysctl|/proc/sys/)\S* .*(no such file or directory|invalid argument|permission denied|operation not permitted)`, launch.KindInvalid, ""},
	{`(?:failed to write|write) .*(?:invalid argument|device or resource busy|numerical result out of range)`, launch.KindInvalid, ""},
	{`cannot set(uid|gid) to unmapped`, launch.KindInvalid, ""},
	{`seccomp`, launch.KindInvalid, ""},
	{`unable to apply apparmor profile`, launch.KindInvalid, ""},
	{`invalid environment variable`, launch.KindInvalid, ""},
}

// fillers are parts of libcontainer's errors that say nothing to a reader.
var fillers = strings.NewReplacer(
	"unable to start container process: ", "",
	"error during container init: ", "",
	"error executing setns process: ", "",
	"error setting cgroup config for procHooks process: ", "set cgroup limits: ",
	"unable to apply cgroup configuration: ", "join cgroup: ",
)

// nsexecPrefix is what the init's C side puts before its messages.
const nsexecPrefix = `nsexec-\d\[\d+\]: `

// clean takes the fillers out of an error's text. The C side of an init reports through
// the log, and then all that libcontainer knows is that a pipe was closed: the
// log's text replaces it.
func clean(text string) string {
	const logged = "runc init error(s): "
	if at := strings.LastIndex(text, logged); at >= 0 {
		text = text[at+len(logged):]
	}
	text = regexp.MustCompile(nsexecPrefix).ReplaceAllString(text, "")
	text = fillers.Replace(text)
	return strings.Join(strings.Fields(text), " ")
}

// mountSource is the message about a mount's source that says nothing of its destination.
const mountSource = `^mount source "(.*)": `

// nameMount adds the destination to the message about a mount's source.
func (j *job) nameMount(message string) string {
	m := regexp.MustCompile(mountSource).FindStringSubmatch(message)
	if m == nil || j.container == nil {
		return message
	}
	for _, mount := range j.container.Mounts {
		if mount.Source == m[1] {
			return `mount "` + m[1] + `" on "` + mount.Destination + `": ` + message[len(m[0]):]
		}
	}
	return message
}
