package devstack

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// An account is the system user that servers run as. The zero account is our own.
type account struct {
	uid, gid uint32
	other    bool
}

// ownerOfServers is our own account, or where we are root postgres, else nobody: Postgres refuses to
// run as root, and neither server needs to.
func ownerOfServers() account {
	if os.Geteuid() != 0 {
		return account{}
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID == nil && errGID == nil {
			return account{uid: uint32(uid), gid: uint32(gid), other: true}
		}
	}
	return account{}
}

// takes makes the account the owner of a file or folder.
func (a account) takes(path string) error {
	if !a.other {
		return nil
	}
	if err := os.Chown(path, int(a.uid), int(a.gid)); err != nil {
		return fmt.Errorf("give %s to the servers' user: %w", path, err)
	}
	return nil
}

// runs makes cmd run as the account in folder, with no more of our environment than a program needs:
// what else stands in it may be secret.
func (a account) runs(cmd *exec.Cmd, folder string) {
	cmd.Dir = folder
	cmd.Env = []string{"LC_ALL=C", "HOME=" + folder}
	for _, name := range []string{"PATH", "TMPDIR", "LD_LIBRARY_PATH"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	// A session of its own: Ctrl-C in the terminal is for us, and we stop the servers when we are done.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if a.other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
}
