package tasks

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
)

// tlsFiles are the files of a rediss:// URL: the authority that the servers' certificates are checked with in place of
// the system's own, and who we are where the servers ask. Postgres has the same in its URL (sslrootcert, sslcert, sslkey).
type tlsFiles struct{ ca, cert, key string }

// takeTLS takes our own parameters out of the URL; go-redis would refuse them.
func takeTLS(u *url.URL) (tlsFiles, error) {
	q := u.Query()
	f := tlsFiles{ca: q.Get("tls_ca"), cert: q.Get("tls_cert"), key: q.Get("tls_key")}
	for _, own := range []string{"tls_ca", "tls_cert", "tls_key"} {
		q.Del(own)
	}
	u.RawQuery = q.Encode()
	switch {
	case f == tlsFiles{}:
		return f, nil
	case u.Scheme != "rediss":
		return f, errors.New("tls_ca, tls_cert and tls_key want rediss://, rediss-cluster:// or rediss-sentinel://")
	case (f.cert == "") != (f.key == ""):
		return f, errors.New("tls_cert and tls_key want each other")
	}
	return f, nil
}

// apply reads the files into the configuration; nil, where the URL is without TLS, stays nil.
func (f tlsFiles) apply(c *tls.Config) error {
	if c == nil {
		return nil
	}
	if f.ca != "" {
		text, err := os.ReadFile(f.ca)
		if err != nil {
			return fmt.Errorf("tls_ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("tls_ca: %s holds no certificate in PEM", f.ca)
		}
	}
	if f.cert != "" {
		// Read anew at each handshake: whoever renews the files need not restart anybody.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(f.cert, f.key)
			return &pair, err
		}
		if _, err := tls.LoadX509KeyPair(f.cert, f.key); err != nil {
			return fmt.Errorf("tls_cert, tls_key: %w", err)
		}
	}
	return nil
}
