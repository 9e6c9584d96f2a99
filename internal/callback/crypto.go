package callback

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/hongyan-dispatch/hongyan/message"
)

// The format of an encrypted body, developers.weixin.qq.com/doc/oplatform/developers/dev/push/:
// AES-256-CBC over 16 random bytes, the message's length in 4 bytes, the message and the appid.
const (
	keyChars   = 43 // of an EncodingAESKey: base64 of 32 bytes without its "="
	padBlock   = 32 // WeChat pads to 32 bytes, not to the 16 of an AES block
	randomHead = 16
	lengthHead = 4
)

// errDecrypt is the one error of decryption. Which check failed stays unsaid: an answer, or a difference in logs
// that somebody shows, must not become a padding oracle.
var errDecrypt = errors.New("does not decrypt: compare the account's aes_key and appid with WeChat's console")

// sign is WeChat's signature over the parts in any order: lower-case hex of 40 characters.
func sign(parts ...string) string {
	slices.Sort(parts)
	sum := sha1.Sum([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}

// signed says, in time that does not depend on where they differ, whether got is the signature over the parts.
func signed(got string, parts ...string) bool {
	return subtle.ConstantTimeCompare([]byte(got), []byte(sign(parts...))) == 1
}

// A sealer encrypts and decrypts under one EncodingAESKey, for one account.
type sealer struct {
	block cipher.Block
	iv    [aes.BlockSize]byte // always the key's first half
	appid []byte
}

// newSealer reads an EncodingAESKey. The decoder is not the strict one: real keys have spare bits set in their last
// character.
func newSealer(encodingAESKey string, appid message.AppID) (*sealer, error) {
	key, err := base64.StdEncoding.DecodeString(encodingAESKey + "=")
	if err != nil || len(encodingAESKey) != keyChars || len(key) != padBlock {
		return nil, errors.New("aes_key: want the 43 letters and digits of the console's EncodingAESKey")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, errors.New("aes_key: unusable") // the library's words could quote it
	}
	return &sealer{block: block, iv: [aes.BlockSize]byte(key), appid: []byte(appid)}, nil
}

// encrypt is the text of an Encrypt node. The random head must be new for each message, since the key's iv is not.
func (s *sealer) encrypt(random [randomHead]byte, msg []byte) string {
	plain := slices.Concat(random[:], binary.BigEndian.AppendUint32(nil, uint32(len(msg))), msg, s.appid)
	pad := padBlock - len(plain)%padBlock // a whole block where nothing is missing
	for range pad {
		plain = append(plain, byte(pad))
	}
	cipher.NewCBCEncrypter(s.block, s.iv[:]).CryptBlocks(plain, plain)
	return base64.StdEncoding.EncodeToString(plain)
}

// decrypt opens the text of an Encrypt node. Callers check its msg_signature first.
func (s *sealer) decrypt(text string) ([]byte, error) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(data) == 0 || len(data)%padBlock != 0 {
		return nil, errDecrypt
	}
	cipher.NewCBCDecrypter(s.block, s.iv[:]).CryptBlocks(data, data)
	if !padded(data) {
		return nil, errDecrypt
	}
	data = data[:len(data)-int(data[len(data)-1])]
	if len(data) < randomHead+lengthHead {
		return nil, errDecrypt
	}
	length := uint64(binary.BigEndian.Uint32(data[randomHead:]))
	data = data[randomHead+lengthHead:]
	if length > uint64(len(data)) || subtle.ConstantTimeCompare(data[length:], s.appid) != 1 {
		return nil, errDecrypt
	}
	return data[:length:length], nil
}

// padded says whether data, some 32-byte blocks, ends in 1 to 32 bytes that all tell their number. It looks at the
// whole last block whatever it finds.
func padded(data []byte) bool {
	last := data[len(data)-padBlock:]
	n := int(last[padBlock-1])
	good := subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, padBlock)
	for i, b := range last {
		inPad := subtle.ConstantTimeLessOrEq(padBlock-n, i)
		good &= subtle.ConstantTimeSelect(inPad, subtle.ConstantTimeByteEq(b, byte(n)), 1)
	}
	return good == 1
}
