package spec

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// maxID is the highest user or group id that is accepted. Higher ones have been
// taken for root by code that counted in 32 signed bits (CVE-2024-40635).
const maxID = math.MaxInt32

// maxGroups bounds supplementary groups (NGROUPS_MAX).
const maxGroups = 65536

// UserSpec is a user as an image or a person writes it: name or number, and
// optionally a colon and a group's name or number.
type UserSpec struct {
	User, Group string
	// HasGroup tells "user:" from "user".
	HasGroup bool
}

// ParseUser splits a string such as 1000, web, 1000:web; the empty one is root.
func ParseUser(s string) (UserSpec, error) {
	user, group, hasGroup := strings.Cut(s, ":")
	if strings.ContainsAny(s, "\x00\n") || strings.Contains(group, ":") || len(s) > 1024 {
		return UserSpec{}, invalid("user: %.80q is not user or user:group", s)
	}
	for _, part := range []string{user, group} {
		if looksNumeric(part) {
			if _, ok := decimal(part, maxID); !ok {
				return UserSpec{}, invalid("user: %.80q is not an id between 0 and %d", part, maxID)
			}
		}
	}
	return UserSpec{User: user, Group: group, HasGroup: hasGroup && group != ""}, nil
}

// looksNumeric finds numbers and what is meant as one: -1, +5.
func looksNumeric(s string) bool {
	digits := strings.TrimLeft(s, "+-")
	return digits != "" && strings.Trim(digits, "0123456789") == ""
}

// ResolveUser decides who PID 1 is. passwd and group are the image's files, nil
// where they do not exist; at most 10 MiB of each are read. imageUser is the USER
// of the image's configuration, which applies when the request names nobody.
//
// The primary group is run_as_group, else the image's when the request's user is
// the image's own (kubelet repeats the image's user without its group), else the
// one of passwd, else 0. It is also the first supplementary group. Policy Merge
// adds the groups that the group file gives the user; both policies add the
// request's.
func ResolveUser(passwd, group io.Reader, imageUser string, security *runtime.LinuxContainerSecurityContext) (pod.User, error) {
	none := pod.User{}
	image, err := ParseUser(imageUser)
	if err != nil {
		return none, fmt.Errorf("image: %w", err)
	}
	wanted, byName, err := requestedUser(security)
	if err != nil {
		return none, err
	}
	if wanted.User == "" || wanted.User == image.User {
		wanted = image
	}
	account, err := lookUpUser(passwd, wanted.User, byName)
	if err != nil {
		return none, err
	}
	gid, hasGID, err := requestedID("run_as_group", security.GetRunAsGroup())
	if err != nil {
		return none, err
	}
	groups, err := readGroups(group, account.name, wanted.Group)
	if err != nil {
		return none, err
	}
	switch {
	case hasGID:
	case wanted.HasGroup && groups.wantedFound:
		gid = groups.wanted
	case wanted.HasGroup:
		return none, invalid("user: group %.80q does not exist in the image's /etc/group", wanted.Group)
	default:
		gid = account.gid
	}
	user := pod.User{UID: account.uid, GID: gid, Groups: []uint32{gid}}
	switch policy := security.GetSupplementalGroupsPolicy(); policy {
	case runtime.SupplementalGroupsPolicy_Merge:
		user.Groups = append(user.Groups, groups.member...)
	case runtime.SupplementalGroupsPolicy_Strict:
	default:
		return none, invalid("supplemental_groups_policy: unknown value %d", policy)
	}
	for i, g := range security.GetSupplementalGroups() {
		if g < 0 || g > maxID {
			return none, invalid("supplemental_groups[%d]: %d is not an id between 0 and %d", i, g, maxID)
		}
		user.Groups = append(user.Groups, uint32(g))
	}
	user.Groups = unique(user.Groups)
	if len(user.Groups) > maxGroups {
		return none, invalid("supplemental_groups: %d groups are more than %d", len(user.Groups), maxGroups)
	}
	return user, nil
}

// requestedUser is the request's choice; byName means that it must exist in passwd.
func requestedUser(security *runtime.LinuxContainerSecurityContext) (wanted UserSpec, byName bool, err error) {
	name := security.GetRunAsUsername()
	uid, hasUID, err := requestedID("run_as_user", security.GetRunAsUser())
	switch {
	case err != nil:
		return UserSpec{}, false, err
	case hasUID && name != "":
		return UserSpec{}, false, invalid("run_as_username: %.80q and run_as_user %d exclude each other", name, uid)
	case hasUID:
		return UserSpec{User: fmt.Sprint(uid)}, false, nil
	case name != "":
		if strings.ContainsAny(name, ":\x00\n") || len(name) > 1024 {
			return UserSpec{}, false, invalid("run_as_username: %.80q is not a user's name", name)
		}
		return UserSpec{User: name}, true, nil
	case security.GetRunAsGroup() != nil:
		return UserSpec{}, false, invalid("run_as_group: %d needs a run_as_user or run_as_username", security.GetRunAsGroup().GetValue())
	}
	return UserSpec{}, false, nil
}

func requestedID(field string, v *runtime.Int64Value) (id uint32, set bool, err error) {
	if v == nil {
		return 0, false, nil
	}
	if v.GetValue() < 0 || v.GetValue() > maxID {
		return 0, false, invalid("%s: %d is not an id between 0 and %d", field, v.GetValue(), maxID)
	}
	return uint32(v.GetValue()), true, nil
}

func unique(ids []uint32) []uint32 {
	seen := make(map[uint32]bool, len(ids))
	return slices.DeleteFunc(ids, func(id uint32) bool {
		again := seen[id]
		seen[id] = true
		return again
	})
}
