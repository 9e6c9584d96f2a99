package wechattest

import (
	"fmt"
	"strconv"
)

// The codes that the simulator gives (global return codes, 全局返回码, and the pages of the APIs).
const (
	systemBusy          = -1
	badCredential       = 40001 // on a token call: the wrong secret
	badGrantType        = 40002
	badOpenID           = 40003
	badMediaType        = 40004
	badFileType         = 40005
	badFileSize         = 40006
	badMediaID          = 40007
	badMsgType          = 40008
	badAppID            = 40013
	badToken            = 40014
	badOpenIDList       = 40031
	tooManyOpenIDs      = 40032
	badTemplateIDLength = 40036
	badTemplateID       = 40037
	badMassMsgID        = 40059
	badURL              = 40066
	badArgs             = 40097
	badSecret           = 40125
	tooFewOpenIDs       = 40130
	badWxName           = 40132
	badTagID            = 40152
	badCallerIP         = 40164
	badPagePath         = 40165
	duplicateIn60s      = 40241
	secretFrozen        = 40243
	tokenMissing        = 41001
	appIDMissing        = 41002
	secretMissing       = 41004
	mediaDataMissing    = 41005
	mediaIDMissing      = 41006
	openIDMissing       = 41009
	badSubscribePage    = 41030
	tokenExpired        = 42001
	massTooFast         = 42010
	getNeeded           = 43001
	postNeeded          = 43002
	notFollowing        = 43004
	inBlacklist         = 43019
	userRefuses         = 43101
	bodyEmpty           = 44002
	articlesEmpty       = 44003
	textEmpty           = 44004
	textTooLong         = 45002
	tooManyArticles     = 45008
	dayQuotaReached     = 45009
	minuteQuotaReached  = 45011
	outOfTime           = 45015
	noMassQuota         = 45028
	outOfCount          = 45047
	clientMsgIDExists   = 45065
	clientMsgIDTooFast  = 45066
	clientMsgIDTooLong  = 45067
	badTypingCommand    = 45072
	noRecentExchange    = 45080
	typingAlready       = 45081
	speedOutOfRange     = 45083
	speedMissing        = 45084
	cardsWithdrawn      = 45113
	badMassMsgType      = 45162
	notJSON             = 47001
	badArgument         = 47003
	unauthorized        = 48001
	noClearsLeft        = 48006
	ridUnknown          = 76001
	ridBad              = 76002
	badCGIPath          = 76021
	inApproval          = 89504
	enteredConfirmation = 89505
)

var texts = map[int]string{
	systemBusy:          "system error",
	badCredential:       "invalid credential, access_token is invalid or not latest, could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r",
	badGrantType:        "invalid grant_type",
	badOpenID:           "invalid openid",
	badMediaType:        "invalid media type",
	badFileType:         "invalid file type",
	badFileSize:         "invalid meida size", // the platform's own spelling
	badMediaID:          "invalid media_id",
	badMsgType:          "invalid message type",
	badAppID:            "invalid appid",
	badToken:            "invalid access_token",
	badOpenIDList:       "invalid openid list",
	tooManyOpenIDs:      "invalid openid list size",
	badTemplateIDLength: "invalid template_id size",
	badTemplateID:       "invalid template_id",
	badMassMsgID:        "invalid msg id",
	badURL:              "invalid url",
	badArgs:             "invalid args",
	badSecret:           "invalid appsecret",
	tooFewOpenIDs:       "invalid openid list size, at least two openid",
	badWxName:           "invalid wechat id",
	badTagID:            "invalid group id",
	badPagePath:         "invalid weapp pagepath",
	badSubscribePage:    "invalid page path",
	duplicateIn60s:      "The message is duplicate in 60 seconds",
	secretFrozen:        "invalid appsecret, it has been frozen",
	tokenMissing:        "access_token missing",
	appIDMissing:        "appid missing",
	secretMissing:       "appsecret missing",
	mediaDataMissing:    "media data missing",
	mediaIDMissing:      "media_id missing",
	openIDMissing:       "openid missing",
	tokenExpired:        "access_token expired",
	massTooFast:         "masssend fast, retry again",
	getNeeded:           "require GET method",
	postNeeded:          "require POST method",
	notFollowing:        "require subscribe",
	inBlacklist:         "require remove blacklist",
	userRefuses:         "user refuse to accept the msg",
	bodyEmpty:           "empty post data",
	articlesEmpty:       "empty news data",
	textEmpty:           "empty content",
	textTooLong:         "content size out of limit",
	tooManyArticles:     "article size out of limit",
	dayQuotaReached:     "reach max api daily quota limit",
	minuteQuotaReached:  "api minute-quota reach limit must slower retry next minute",
	outOfTime:           "response out of time limit or subscription is canceled",
	noMassQuota:         "has no masssend quota",
	outOfCount:          "out of response count limit",
	clientMsgIDExists:   "clientmsgid exist",
	clientMsgIDTooFast:  "same clientmsgid retry too fast",
	clientMsgIDTooLong:  "clientmsgid size out of limit",
	badTypingCommand:    "invalid command",
	noRecentExchange:    "no exchange with the user in 30 seconds",
	typingAlready:       "already typing",
	speedOutOfRange:     "speed out of range",
	speedMissing:        "speed missing",
	cardsWithdrawn:      "goods and cards can not be mass-sent",
	badMassMsgType:      "invalid mass msgtype",
	notJSON:             "data format error",
	badArgument:         "argument invalid!",
	unauthorized:        "api unauthorized",
	noClearsLeft:        "forbid to clear quota because of reaching the limit",
	ridUnknown:          "rid not found",
	ridBad:              "invalid rid",
	badCGIPath:          "cgi_path not found",
	inApproval:          "in approval, wait for the administrator",
	enteredConfirmation: "entered confirmation, wait for the administrator",
	// Given only where a setting or a fault says so.
	40249: "marketing content forbidden",
	43116: "template restricted",
	43117: "Sending messages to this openid too frequently, please try later",
	45087: "customer message blocked",
	48003: "user not agree mass-send protocol",
	48004: "api forbidden for irregularities",
	48011: "template disabled",
	50002: "user limited",
	89503: "this ip needs the administrator's confirmation",
	89506: "ip refused, retry after 24 hours",
	89507: "ip refused, retry after 1 hour",
}

// A refusal is an answer with an errcode.
type refusal struct {
	code  int
	msg   string
	extra string // further members of the answer, such as `,"msg_id":1`
}

func refuse(code int) *refusal {
	msg, ok := texts[code]
	if !ok {
		msg = "error " + strconv.Itoa(code)
	}
	return &refusal{code: code, msg: msg}
}

func refusef(code int, format string, args ...any) *refusal {
	return &refusal{code: code, msg: fmt.Sprintf(format, args...)}
}
