package main

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// shimGroup is the control group of containerd's helper processes, of which each holds the containers of one Pod.
const shimGroup = "shims"

// shimSockets returns the sockets that shims leave in a folder of the whole machine.
func shimSockets(state string) []string {
	var sockets []string
	bundles, _ := filepath.Glob(filepath.Join(state, "containerd/state/io.containerd.runtime.v2.task/*/*"))
	for _, bundle := range bundles {
		text, err := os.ReadFile(filepath.Join(bundle, "address"))
		if socket, isUnix := strings.CutPrefix(strings.TrimSpace(string(text)), "unix://"); err == nil && isUnix {
			sockets = append(sockets, socket)
		}
	}
	return sockets
}

// cgroupRoots returns where control groups are mounted: one folder with version 2, one for each controller with 1.
func cgroupRoots() ([]string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var roots []string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		before, after, found := strings.Cut(lines.Text(), " - ")
		kind, _, _ := strings.Cut(after, " ")
		if fields := strings.Fields(before); found && len(fields) > 4 && (kind == "cgroup" || kind == "cgroup2") {
			roots = append(roots, fields[4])
		}
	}
	return roots, nil
}

// makeCgroup makes a control group of our own for all containers, and one below it for their shims. Two kubelets that
// share one would each remove the other's Pods as leftovers. And it finds every process of every Pod, whatever becomes of
// containerd and of us: shims are made to outlive both.
func makeCgroup(group string) error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		parent := root
		for _, name := range []string{group, shimGroup} {
			folder := filepath.Join(parent, name)
			if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
			enableControllers(parent)
			if err := inheritProcessors(parent, folder); err != nil {
				return err
			}
			parent = folder
		}
	}
	return nil
}

// enableControllers lets the groups below a folder have limits, with version 2. Where that is refused, as in a container
// that shares its group with others, the kubelet tells what it lacks.
func enableControllers(folder string) {
	controllers, _ := os.ReadFile(filepath.Join(folder, "cgroup.controllers"))
	for _, name := range strings.Fields(string(controllers)) {
		_ = os.WriteFile(filepath.Join(folder, "cgroup.subtree_control"), []byte("+"+name), 0)
	}
}

// inheritProcessors fills a new set of processors: with version 1 it is empty and takes no process.
func inheritProcessors(parent, folder string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, name))
		if err != nil || len(strings.TrimSpace(string(value))) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(folder, name), value, 0); err != nil {
			return err
		}
	}
	return nil
}

// cgroupProcesses returns all processes in a control group and in those below it.
func cgroupProcesses(group string) []int {
	roots, _ := cgroupRoots()
	var found []int
	for _, root := range roots {
		_ = filepath.WalkDir(filepath.Join(root, group), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return nil
			}
			text, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			for _, line := range strings.Fields(string(text)) {
				// 0 stands for a process of a namespace that we do not see.
				if pid, err := strconv.Atoi(line); err == nil && pid > 0 && !slices.Contains(found, pid) {
					found = append(found, pid)
				}
			}
			return nil
		})
	}
	return found
}

// removeCgroup removes a control group and those below it, the innermost first.
func removeCgroup(group string) error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		var folders []string
		_ = filepath.WalkDir(filepath.Join(root, group), func(path string, entry fs.DirEntry, walking error) error {
			if walking == nil && entry.IsDir() {
				folders = append(folders, path)
			}
			return nil
		})
		slices.Reverse(folders)
		for _, folder := range folders {
			if removing := removeEmptied(folder); removing != nil {
				err = errors.Join(err, &os.PathError{Op: "remove", Path: folder, Err: removing})
			}
		}
	}
	return err
}

// removeEmptied removes a control group whose processes were just killed. For a moment after the last of them has ended
// the kernel may still call the group busy.
func removeEmptied(folder string) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Rmdir(folder)
		switch {
		case err == nil || errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.EBUSY) || time.Now().After(deadline):
			return err
		}
	}
}
