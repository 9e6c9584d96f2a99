package wechattest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// signatureOf is the signature of pushes: the SHA-1 of the parts, sorted as texts and joined.
func signatureOf(parts ...string) string {
	sorted := slices.Sorted(slices.Values(parts))
	sum := sha1.Sum([]byte(strings.Join(sorted, "")))
	return hex.EncodeToString(sum[:])
}

// A seal encrypts and decrypts bodies for one account: AES-256-CBC, whose first vector is the key's first half, over
// 16 random bytes, the length of the text in 4, the text, the appid, and a pad to blocks of 32.
type seal struct {
	key   []byte
	block cipher.Block
	appID string
}

const sealBlock = 32

func newSeal(encodingKey, appID string) (*seal, error) {
	if len(encodingKey) != 43 {
		return nil, errors.New("want 43 characters")
	}
	key, err := base64.StdEncoding.DecodeString(encodingKey + "=") // its last character may have bits to spare
	if err != nil {
		return nil, errors.New("want letters and digits")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return &seal{key, block, appID}, nil
}

// close encrypts a text.
func (s *seal) close(random [16]byte, text []byte) string {
	b := slices.Concat(random[:], binary.BigEndian.AppendUint32(nil, uint32(len(text))), text, []byte(s.appID))
	pad := sealBlock - len(b)%sealBlock
	b = append(b, bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(s.block, s.key[:aes.BlockSize]).CryptBlocks(b, b)
	return base64.StdEncoding.EncodeToString(b)
}

// open decrypts a text and checks everything about it.
func (s *seal) open(sealed string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(sealed)
	switch {
	case err != nil:
		return nil, fmt.Errorf("base64: %w", err)
	case len(b) == 0 || len(b)%aes.BlockSize != 0:
		return nil, fmt.Errorf("%d bytes are no whole blocks", len(b))
	}
	cipher.NewCBCDecrypter(s.block, s.key[:aes.BlockSize]).CryptBlocks(b, b)
	pad := int(b[len(b)-1])
	if pad < 1 || pad > sealBlock || pad > len(b) {
		return nil, fmt.Errorf("the pad is %d; want 1 to %d", pad, sealBlock)
	}
	for _, p := range b[len(b)-pad:] {
		if int(p) != pad {
			return nil, errors.New("the pad is uneven")
		}
	}
	b = b[:len(b)-pad]
	if len(b) < 20 {
		return nil, errors.New("too short")
	}
	length := uint64(binary.BigEndian.Uint32(b[16:]))
	b = b[20:]
	if length > uint64(len(b)) {
		return nil, fmt.Errorf("the length is %d of %d bytes", length, len(b))
	}
	if got := string(b[length:]); got != s.appID {
		return nil, fmt.Errorf("it is for the appid %q", got)
	}
	return b[:length], nil
}
