package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cleanDead cleans after a cluster whose supervisor is dead. It refuses one that runs.
func cleanDead(state string) error {
	if _, err := os.Stat(state); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, err := lockState(state)
	if err != nil {
		return err
	}
	defer lock.Close()
	return clean(state)
}

// endDetached asks the supervisor of a running cluster to end it, and waits until it has.
func endDetached(state string) error {
	all, err := recorded(state)
	if err != nil {
		return err
	}
	if len(all) == 0 || !all[0].alive() {
		return cleanDead(state)
	}
	supervisor := all[0]
	if err := unix.Kill(supervisor.Pid, unix.SIGTERM); err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); supervisor.alive(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("supervisor %d did not end within a minute of SIGTERM", supervisor.Pid)
		}
	}
	if _, err := os.Stat(state); err == nil {
		// It could not clean everything. Trying again tells why.
		return cleanDead(state)
	}
	return nil
}

// clean takes away processes, containers, mounts, network and files of a cluster, each only as far as it is there. All
// steps are tried; the state folder, with the records that a later try needs, goes only if every one of them succeeded.
func clean(state string) error {
	err := errors.Join(killRecorded(state), cleanNode(state), unmountBelow(state))
	if err != nil {
		return err
	}
	if os.Getenv("DAYPASS_KEEP_STATE") != "" {
		return nil
	}
	return os.RemoveAll(state)
}

func killRecorded(state string) error {
	all, err := recorded(state)
	if err != nil {
		return err
	}
	return killAll("recorded processes", func() []int {
		var alive []int
		for _, id := range all {
			if id.Pid != os.Getpid() && id.alive() {
				alive = append(alive, id.Pid)
			}
		}
		return alive
	})
}

// unmountBelow takes away every mount in the state folder, the innermost first: volumes, root file systems, namespaces.
func unmountBelow(state string) error {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer file.Close()
	var points []string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if point := unescapeMount.Replace(fields[4]); strings.HasPrefix(point, state+"/") {
			points = append(points, point)
		}
	}
	slices.Reverse(points)
	var failed error
	for _, point := range points {
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL {
			failed = errors.Join(failed, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return failed
}

// mountinfo writes these characters as octal numbers.
var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
