package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// validity covers a test run and a cluster that someone leaves up for a while.
const validity = 365 * 24 * time.Hour

// writeCredentials makes one authority and what it signs:
//
//	ca.crt                          trusted by clients, Pods, kubelet and API server
//	apiserver.crt, .key             serving certificate of the API server, for loopback and for the service address
//	kubelet.crt, .key               serving certificate of the kubelet
//	kubelet-client.crt, .key        the API server's identity at the kubelet (logs, exec)
//	sa.pub, sa.key                  signs ServiceAccount tokens
func writeCredentials(folder string) error {
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	authority := certificate("daypass-test-ca")
	authority.IsCA = true
	authority.BasicConstraintsValid = true
	authority.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(folder, "ca.crt"), "CERTIFICATE", authorityDER); err != nil {
		return err
	}
	sign := func(name string, leaf *x509.Certificate) error {
		key, err := writeKey(filepath.Join(folder, name+".key"))
		if err != nil {
			return err
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), authorityKey)
		if err != nil {
			return err
		}
		return writePEM(filepath.Join(folder, name+".crt"), "CERTIFICATE", der)
	}

	apiserver := certificate("kube-apiserver")
	apiserver.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	apiserver.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)}
	apiserver.DNSNames = []string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}
	if err := sign("apiserver", apiserver); err != nil {
		return err
	}

	kubelet := certificate("system:node:127.0.0.1")
	kubelet.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	kubelet.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	kubelet.DNSNames = []string{"localhost"}
	if err := sign("kubelet", kubelet); err != nil {
		return err
	}

	client := certificate("kube-apiserver-kubelet-client")
	client.Subject.Organization = []string{"system:masters"}
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if err := sign("kubelet-client", client); err != nil {
		return err
	}

	key, err := writeKey(filepath.Join(folder, "sa.key"))
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return writePEM(filepath.Join(folder, "sa.pub"), "PUBLIC KEY", public)
}

func certificate(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetInt64(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		// Clocks of containers and hosts may differ by a little.
		NotBefore: now.Add(-time.Hour),
		NotAfter:  now.Add(validity),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
}

func writeKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(path, "EC PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
