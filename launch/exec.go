package launch

import "strings"

// ExecError makes an Error of the text that a container's init wrote to ExecFD.
// It returns nil for text without content.
func ExecError(text string) *Error {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil
	}
	e := &Error{Step: "libct.exec", Kind: KindInternal, Message: oneLine(text)}
	name, cause, whole := cutExec(text)
	if !whole {
		return e
	}
	e.Kind = execKind(cause)
	e.Message = `exec "` + name + `": ` + oneLine(cause)
	if e.Kind == KindNotFound {
		// The init has found the file itself before: execve means its interpreter.
		e.Message += " (its interpreter or dynamic loader is missing)"
	}
	return e
}

// LookupError makes an Error of what an init says of a command that it cannot find
// or may not execute, wherever that stands in text; nil if it does not.
//
//	... exec: "NAME": [stat NAME: ]CAUSE
func LookupError(text string) *Error {
	const mark = `exec: "`
	at := strings.LastIndex(text, mark)
	if at < 0 {
		return nil
	}
	name, cause, whole := strings.Cut(text[at+len(mark):], `": `)
	if !whole {
		return nil
	}
	cause = strings.TrimPrefix(cause, "stat "+name+": ")
	kind := execKind(cause)
	if kind == KindInternal {
		return nil
	}
	return &Error{Step: "libct.exec", Kind: kind, Message: `exec "` + name + `": ` + oneLine(cause)}
}

// cutExec takes "exec NAME: CAUSE" apart.
func cutExec(text string) (name, cause string, whole bool) {
	rest, whole := strings.CutPrefix(text, "exec ")
	if !whole {
		return "", "", false
	}
	at := strings.LastIndex(rest, ": ")
	if at < 0 {
		return "", "", false
	}
	return rest[:at], rest[at+2:], true
}

// execKind classifies the cause of an execve or look-up that failed.
func execKind(cause string) Kind {
	switch {
	case strings.Contains(cause, "executable file not found"),
		strings.Contains(cause, "no such file or directory"),
		strings.Contains(cause, "not a directory"):
		return KindNotFound
	case strings.Contains(cause, "permission denied"),
		strings.Contains(cause, "operation not permitted"),
		strings.Contains(cause, "exec format error"),
		strings.Contains(cause, "is a directory"),
		strings.Contains(cause, "text file busy"),
		strings.Contains(cause, "cannot run executable found relative to current directory"):
		return KindNotExecutable
	}
	return KindInternal
}

// oneLine joins the lines of text.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}
