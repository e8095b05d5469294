package spec

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Bounds of the image's files (CVE-2025-4437).
const (
	maxPasswdFile = 10 << 20
	maxPasswdLine = 1 << 20
)

// account is a user as passwd(5) has it. name is empty for a number without a line.
type account struct {
	name     string
	uid, gid uint32
}

// lookUpUser finds a user by number, or by name when user is not a number or
// byName is set; empty is number 0. A number without a line is taken as it is, a
// name without one is an error.
func lookUpUser(passwd io.Reader, user string, byName bool) (account, error) {
	if user == "" {
		user = "0"
	}
	number, numeric := decimal(user, maxID)
	byNumber := numeric && !byName
	a := account{uid: uint32(number)}
	found := false
	err := eachLine("/etc/passwd", passwd, func(line string) bool {
		fields := strings.SplitN(line, ":", 5)
		if len(fields) < 4 || fields[0] == "" {
			return true
		}
		uid, okUID := decimal(fields[2], maxID)
		gid, okGID := decimal(fields[3], maxID)
		if !okUID || !okGID {
			return true
		}
		if found = byNumber && uid == number || !byNumber && fields[0] == user; found {
			a = account{name: fields[0], uid: uint32(uid), gid: uint32(gid)}
		}
		return !found
	})
	if err != nil {
		return account{}, err
	}
	if !found && !byNumber {
		return account{}, invalid("user: %.80q does not exist in the image's /etc/passwd", user)
	}
	return a, nil
}

// groups is what group(5) says.
type groups struct {
	// member are the groups that list the user.
	member []uint32
	// wanted is the group that was asked for by name or number.
	wanted      uint32
	wantedFound bool
}

// readGroups finds the groups of which user is a member and the one called wanted.
// Either may be empty. A number needs no line.
func readGroups(group io.Reader, user, wanted string) (groups, error) {
	var g groups
	if number, ok := decimal(wanted, maxID); ok {
		g.wanted, g.wantedFound = uint32(number), true
	}
	err := eachLine("/etc/group", group, func(line string) bool {
		fields := strings.SplitN(line, ":", 4)
		if len(fields) < 3 || fields[0] == "" {
			return true
		}
		gid, ok := decimal(fields[2], maxID)
		if !ok {
			return true
		}
		if fields[0] == wanted && !g.wantedFound {
			g.wanted, g.wantedFound = uint32(gid), true
		}
		if len(fields) == 4 && user != "" && len(g.member) < maxGroups && slices.Contains(strings.Split(fields[3], ","), user) {
			g.member = append(g.member, uint32(gid))
		}
		return true
	})
	return g, err
}

// eachLine calls fn with each line, without blanks around it, until fn returns
// false. Empty lines and comments are left out. A nil reader has no lines.
func eachLine(file string, r io.Reader, fn func(string) bool) error {
	if r == nil {
		return nil
	}
	limited := &io.LimitedReader{R: r, N: maxPasswdFile + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(make([]byte, 0, 4096), maxPasswdLine)
	for lines.Scan() {
		if limited.N <= 0 {
			return invalid("image: %s has more than %d bytes", file, maxPasswdFile)
		}
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if !fn(line) {
			return nil
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return invalid("image: %s has a line of more than %d bytes", file, maxPasswdLine)
	} else if err != nil {
		return fmt.Errorf("read the image's %s: %w", file, err)
	}
	return nil
}
