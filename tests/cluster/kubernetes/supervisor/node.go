package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// nodeSpec is what the parent knows about the node it wants.
type nodeSpec struct {
	ID             string `json:"id"`
	ServiceAddress string `json:"serviceAddress"`
	APIServerPort  uint16 `json:"apiserverPort"`
}

// network is what was prepared for it.
type network struct {
	Bridge  string `json:"bridge"`
	Subnet  string `json:"subnet"`
	Gateway string `json:"gateway"`
	// Cgroup holds all Pods, ShimCgroup containerd's helpers.
	Cgroup     string `json:"cgroup"`
	ShimCgroup string `json:"shimCgroup"`
}

// nodeRecord is kept in the state folder for `clean`. It is written before anything is made.
type nodeRecord struct {
	ID      string   `json:"id"`
	Network network  `json:"network"`
	Rule    []string `json:"rule"`
}

const (
	nodeFile = "node.json"
	// Where libcni and the kubelet keep files whatever folders they are given.
	cniResults    = "/var/lib/cni/results"
	containerLogs = "/var/log/containers"
)

// networkName is the name of a node's CNI network.
func networkName(id string) string { return "daypass-" + id }

// prepareNode makes the bridge of the Pods, their way to the API server, and the control group of the containers.
//
// The API server listens on loopback only. One rule takes what Pods send to its service address there, in place of
// kube-proxy; `route_localnet` lets packets from the bridge in to loopback at all.
func prepareNode(state string, spec nodeSpec) (*network, error) {
	subnet, gateway, err := freeSubnet()
	if err != nil {
		return nil, err
	}
	made := network{
		Bridge:     "dp-" + spec.ID,
		Subnet:     subnet.String(),
		Gateway:    gateway.String(),
		Cgroup:     "/" + networkName(spec.ID),
		ShimCgroup: "/" + networkName(spec.ID) + "/" + shimGroup,
	}
	rule := []string{
		"PREROUTING", "-i", made.Bridge, "-d", spec.ServiceAddress + "/32", "-p", "tcp", "--dport", "443",
		"-j", "DNAT", "--to-destination", fmt.Sprintf("127.0.0.1:%d", spec.APIServerPort),
	}
	text, err := json.Marshal(nodeRecord{ID: spec.ID, Network: made, Rule: rule})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(state, nodeFile), text, 0o600); err != nil {
		return nil, err
	}

	size, _ := subnet.Mask.Size()
	for _, command := range [][]string{
		{"ip", "link", "add", made.Bridge, "type", "bridge"},
		{"ip", "address", "add", fmt.Sprintf("%s/%d", gateway, size), "dev", made.Bridge},
		{"ip", "link", "set", made.Bridge, "up"},
		append([]string{"iptables", "--wait", "-t", "nat", "-A"}, rule...),
	} {
		if err := execute(command...); err != nil {
			return nil, err
		}
	}
	local := filepath.Join("/proc/sys/net/ipv4/conf", made.Bridge, "route_localnet")
	if err := os.WriteFile(local, []byte("1"), 0); err != nil {
		return nil, err
	}
	return &made, makeCgroup(made.Cgroup)
}

// cleanNode takes away what prepareNode made and what kubelet and containers left outside of the state folder.
func cleanNode(state string) error {
	text, err := os.ReadFile(filepath.Join(state, nodeFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var record nodeRecord
	if err := json.Unmarshal(text, &record); err != nil {
		// Written only in part, so nothing was made.
		return nil
	}
	err = killAll("containers and shims", func() []int { return cgroupProcesses(record.Network.Cgroup) })
	for _, socket := range shimSockets(state) {
		_ = os.Remove(socket)
	}
	for execute(append([]string{"iptables", "--wait", "-t", "nat", "-D"}, record.Rule...)...) == nil {
	}
	if _, lookup := net.InterfaceByName(record.Network.Bridge); lookup == nil {
		err = errors.Join(err, execute("ip", "link", "delete", record.Network.Bridge))
	}
	results, _ := filepath.Glob(filepath.Join(cniResults, networkName(record.ID)+"-*"))
	for _, result := range results {
		err = errors.Join(err, os.Remove(result))
		// The loopback of the same Pod does not have our name.
		pod := strings.TrimPrefix(filepath.Base(result), networkName(record.ID)+"-")
		_ = os.Remove(filepath.Join(cniResults, "cni-loopback-"+strings.TrimSuffix(pod, "eth0")+"lo"))
	}
	links, _ := filepath.Glob(filepath.Join(containerLogs, "*"))
	for _, link := range links {
		if target, reading := os.Readlink(link); reading == nil && strings.HasPrefix(target, state+"/") {
			err = errors.Join(err, os.Remove(link))
		}
	}
	return errors.Join(err, removeCgroup(record.Network.Cgroup))
}

// freeSubnet finds a network of Pods that no interface and no route of this machine has.
func freeSubnet() (*net.IPNet, net.IP, error) {
	taken, err := takenNetworks()
	if err != nil {
		return nil, nil, err
	}
candidates:
	for second := byte(88); second < 128; second++ {
		subnet := &net.IPNet{IP: net.IPv4(10, second, 0, 0).To4(), Mask: net.CIDRMask(16, 32)}
		for _, other := range taken {
			if subnet.Contains(other.IP) || other.Contains(subnet.IP) {
				continue candidates
			}
		}
		return subnet, net.IPv4(10, second, 0, 1), nil
	}
	return nil, nil, errors.New("all networks from 10.88.0.0/16 to 10.127.0.0/16 are in use on this machine")
}

func takenNetworks() ([]*net.IPNet, error) {
	var taken []*net.IPNet
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && network.IP.To4() != nil {
			taken = append(taken, network)
		}
	}
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(string(routes), "\n") {
		var name, gateway, flags string
		var destination, mask uint32
		var skipped int
		n, _ := fmt.Sscanf(line, "%s %x %s %s %d %d %d %x", &name, &destination, &gateway, &flags,
			&skipped, &skipped, &skipped, &mask)
		// A line of headings has fewer numbers; the default route takes nothing.
		if n < 8 || mask == 0 {
			continue
		}
		taken = append(taken, &net.IPNet{IP: littleEndian(destination), Mask: net.IPMask(littleEndian(mask))})
	}
	return taken, nil
}

func littleEndian(word uint32) net.IP {
	return net.IP{byte(word), byte(word >> 8), byte(word >> 16), byte(word >> 24)}
}

// execute runs a command. Its child is not taken by the supervisor's reaper, since both run in the main goroutine.
func execute(command ...string) error {
	output, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}
