package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// request is one line of input. Exactly one field is set.
type request struct {
	// Start starts a part.
	Start *partSpec `json:"start,omitempty"`
	// Stop kills the part of that name.
	Stop string `json:"stop,omitempty"`
	// Exits asks which parts have ended by themselves.
	Exits bool `json:"exits,omitempty"`
	// Node prepares the machine for a kubelet.
	Node *nodeSpec `json:"node,omitempty"`
	// Detach keeps the cluster when the input ends.
	Detach bool `json:"detach,omitempty"`
	// End stops everything, cleans and exits.
	End bool `json:"end,omitempty"`
}

// answer is one line of output: one for each request, in their order, and one at the start.
type answer struct {
	Error   string            `json:"error,omitempty"`
	Pid     int               `json:"pid,omitempty"`
	Exits   map[string]string `json:"exits,omitempty"`
	Network *network          `json:"network,omitempty"`
}

type partSpec struct {
	Name string   `json:"name"`
	Argv []string `json:"argv"`
	Env  []string `json:"env"`
}

type part struct {
	name  string
	pid   int
	ended bool
	how   string
}

type supervisor struct {
	state    string
	parts    []*part
	detached bool
}

func run(state string) error {
	// A terminal's Ctrl-C goes to the whole process group; the parts must outlive the parent long enough to be ended
	// in order. This fails only for a group leader, which has a group of its own already.
	_, _ = unix.Setsid()
	// Shims and containers whose parents end come to us, so that none of them can escape.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the reaper of all descendants: %w", err)
	}
	lock, err := lockState(state)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := record(state, os.Getpid()); err != nil {
		return err
	}

	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	requests := make(chan request)
	go readRequests(os.Stdin, requests)

	s := &supervisor{state: state}
	output := json.NewEncoder(os.Stdout)
	if err := output.Encode(answer{}); err != nil {
		return err
	}
	for {
		select {
		case <-children:
			s.reap()
		case <-ends:
			return s.end()
		case r, open := <-requests:
			switch {
			case !open && s.detached:
				requests = nil
			case !open:
				return s.end()
			case r.End:
				err := s.end()
				_ = output.Encode(toAnswer(err))
				return err
			default:
				// A parent that does not read any more is about to end, which closes the input.
				_ = output.Encode(s.handle(r))
			}
		}
	}
}

func readRequests(input io.Reader, requests chan<- request) {
	defer close(requests)
	lines := bufio.NewScanner(input)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			fmt.Fprintf(os.Stderr, "supervisor: a request that cannot be read: %v\n", err)
			return
		}
		requests <- r
	}
}

func toAnswer(err error) answer {
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{}
}

func (s *supervisor) handle(r request) answer {
	switch {
	case r.Start != nil:
		pid, err := s.start(*r.Start)
		if err != nil {
			return answer{Error: err.Error()}
		}
		return answer{Pid: pid}
	case r.Stop != "":
		return toAnswer(s.stop(r.Stop))
	case r.Exits:
		s.reap()
		exits := map[string]string{}
		for _, p := range s.parts {
			if p.ended {
				exits[p.name] = p.how
			}
		}
		return answer{Exits: exits}
	case r.Node != nil:
		network, err := prepareNode(s.state, *r.Node)
		if err != nil {
			return answer{Error: err.Error()}
		}
		return answer{Network: network}
	case r.Detach:
		s.detached = true
		return answer{}
	}
	return answer{Error: "an empty request"}
}

func (s *supervisor) start(spec partSpec) (int, error) {
	if len(spec.Argv) == 0 {
		return 0, fmt.Errorf("%s: no command", spec.Name)
	}
	path := filepath.Join(s.state, "logs", spec.Name+".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	nothing, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer nothing.Close()
	process, err := os.StartProcess(spec.Argv[0], spec.Argv, &os.ProcAttr{
		Dir:   s.state,
		Env:   append(os.Environ(), spec.Env...),
		Files: []*os.File{nothing, log, log},
		Sys:   &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL},
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", spec.Name, err)
	}
	s.parts = append(s.parts, &part{name: spec.Name, pid: process.Pid})
	return process.Pid, record(s.state, process.Pid)
}

// stop kills the newest part of that name and waits for its end. Its own children live on.
func (s *supervisor) stop(name string) error {
	for i := len(s.parts) - 1; i >= 0; i-- {
		p := s.parts[i]
		if p.name != name {
			continue
		}
		deadline := time.Now().Add(10 * time.Second)
		for !p.ended {
			if time.Now().After(deadline) {
				return fmt.Errorf("%s did not end within 10 s of SIGKILL", name)
			}
			_ = unix.Kill(p.pid, unix.SIGKILL)
			time.Sleep(2 * time.Millisecond)
			s.reap()
		}
		s.parts = append(s.parts[:i], s.parts[i+1:]...)
		return nil
	}
	return fmt.Errorf("no part named %s", name)
}

// reap collects every child that has ended: parts, and shims that came to us.
func (s *supervisor) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		for _, p := range s.parts {
			if p.pid == pid && !p.ended {
				p.ended, p.how = true, describe(status)
			}
		}
	}
}

func describe(status unix.WaitStatus) string {
	if status.Signaled() {
		return "killed by " + unix.SignalName(status.Signal())
	}
	return fmt.Sprintf("exit code %d", status.ExitStatus())
}

// end kills all descendants, then cleans the machine. State is thrown away with the cluster, so nobody is asked nicely.
func (s *supervisor) end() error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		alive := descendants(os.Getpid())
		if len(alive) == 0 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes that do not end: %v", alive)
		}
		for _, pid := range alive {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(2 * time.Millisecond)
		s.reap()
	}
	return clean(s.state)
}
