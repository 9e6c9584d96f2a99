package token

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A sealer seals an account's token for Redis: AES-256-GCM under a key derived from the appsecret. Who has
// the appsecret can get a token anyway; who has only Redis gets nothing.
type sealer struct {
	aead cipher.AEAD
	app  []byte
	name string // of this appsecret, in the keys: pods with a new secret do not meet those with the old one
}

func newSealer(app message.AppID, secret wechat.Secret) (*sealer, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret.Reveal()), nil, "hongyan access token", 32)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	name, err := hkdf.Key(sha256.New, []byte(secret.Reveal()), nil, "hongyan name of appsecret", 4)
	if err != nil {
		return nil, fmt.Errorf("derive a name: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &sealer{aead, []byte(app), hex.EncodeToString(name)}, nil
}

func (s *sealer) seal(token wechat.Secret) []byte {
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(token.Reveal())+s.aead.Overhead())
	_, _ = rand.Read(nonce) // never fails (crypto/rand, Go 1.24)
	return s.aead.Seal(nonce, nonce, []byte(token.Reveal()), s.app)
}

var errSeal = errors.New("the stored token does not open")

func (s *sealer) open(sealed string) (wechat.Secret, error) {
	n := s.aead.NonceSize()
	if len(sealed) < n {
		return wechat.Secret{}, errSeal
	}
	token, err := s.aead.Open(nil, []byte(sealed[:n]), []byte(sealed[n:]), s.app)
	if err != nil {
		return wechat.Secret{}, errSeal
	}
	return wechat.NewSecret(string(token)), nil
}
