package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// identity names a process for good: a process ID alone is used again, even more so after a reboot.
type identity struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"`
	Boot  string `json:"boot"`
}

// processFile holds one identity a line; the first is the supervisor's own.
const processFile = "processes"

func identify(pid int) (identity, error) {
	_, start, err := readStat(pid)
	if err != nil {
		return identity{}, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return identity{}, err
	}
	return identity{Pid: pid, Start: start, Boot: strings.TrimSpace(string(boot))}, nil
}

func (i identity) alive() bool {
	now, err := identify(i.Pid)
	return err == nil && now == i
}

// readStat returns parent and start time (clock ticks since boot). A zombie is an error: it is as good as gone.
func readStat(pid int) (parent int, start uint64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The command's name stands in parentheses and may hold anything, so count from the last one.
	_, rest, found := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), ") ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 20 {
		return 0, 0, fmt.Errorf("/proc/%d/stat: not understood", pid)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return 0, 0, fmt.Errorf("process %d has ended", pid)
	}
	if parent, err = strconv.Atoi(fields[1]); err != nil {
		return 0, 0, err
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return parent, start, err
}

// descendants returns all living descendants of a process.
func descendants(root int) []int {
	children := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if parent, _, err := readStat(pid); err == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	var all []int
	next := children[root]
	for len(next) > 0 {
		pid := next[0]
		next = append(next[1:], children[pid]...)
		all = append(all, pid)
	}
	return all
}

// record adds a process to those that `clean` may kill.
func record(state string, pid int) error {
	id, err := identify(pid)
	if err != nil {
		// It ended at once, so there is nothing to kill later.
		return nil
	}
	line, err := json.Marshal(id)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(state, processFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.Write(append(line, '\n'))
	return err
}

// recorded returns what `record` wrote. A torn last line is left out.
func recorded(state string) ([]identity, error) {
	file, err := os.Open(filepath.Join(state, processFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all []identity
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var id identity
		if json.Unmarshal(lines.Bytes(), &id) == nil {
			all = append(all, id)
		}
	}
	return all, nil
}

// killAll kills processes until find returns none any more.
func killAll(what string, find func() []int) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		alive := find()
		if len(alive) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s that do not end: %v", what, alive)
		}
		for _, pid := range alive {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// lockState takes the lock that tells others that this cluster is alive. The kernel gives it back at our end.
func lockState(state string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(state, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// Who only looks whether we are alive holds it for a moment.
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR || time.Now().After(deadline) {
			file.Close()
			return nil, fmt.Errorf("%s belongs to a cluster that runs: %w", state, err)
		}
	}
}
