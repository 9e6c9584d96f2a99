package wechattest

// An endpoint is one API: how it is called, who may call it, and what decides.
type endpoint struct {
	path    string
	method  string               // empty: either
	json    bool                 // the body must be a JSON object
	noToken bool                 // called with appid and secret
	who     func(*settings) bool // may call it; nil: everybody
	quota   string               // the API whose quota it uses up
	meter   int                  // that API's number
	number  int
	decide  func(*call) *refusal // writes the answer to call.out, or refuses
}

// routes are all endpoints by their path. mass/send and mass/sendall share one quota (高级群发接口); the
// pages do not say whether they do, and the stricter reading is the safer witness.
func routes() map[string]*endpoint {
	const get, post = "GET", "POST"
	list := []endpoint{
		{path: PathToken, method: get, noToken: true, decide: legacyToken},
		{path: PathStableToken, method: post, json: true, noToken: true, decide: stableToken},

		{path: PathTemplate, method: post, json: true, who: maySendTemplates, decide: sendTemplate},
		{path: PathTemplates, method: get, who: maySendTemplates, decide: listTemplates},
		{path: PathSubscribe, method: post, json: true, who: maySendTemplates, decide: sendSubscribe},
		{path: PathCustom, method: post, json: true, who: (*settings).verified, decide: sendCustom},
		{path: PathTyping, method: post, json: true, who: (*settings).verified, decide: showTyping},

		{path: PathMassSend, method: post, json: true, who: maySendLists, decide: sendMass},
		{path: PathMassSendAll, method: post, json: true, who: (*settings).verified, quota: PathMassSend, decide: sendMassToAll},
		{path: PathMassPreview, method: post, json: true, who: (*settings).verified, decide: previewMass},
		{path: PathMassDelete, method: post, json: true, who: (*settings).verified, decide: deleteMass},
		{path: PathMassGet, method: post, json: true, who: (*settings).verified, decide: getMass},
		{path: PathMassSpeed, method: post, who: (*settings).verified, decide: getSpeed},
		{path: PathMassSetSpeed, method: post, json: true, who: (*settings).verified, decide: setSpeed},
		{path: PathMediaUpload, method: post, decide: uploadMedia},

		{path: PathUsers, method: get, who: (*settings).verified, decide: listUsers},
		{path: PathTagUsers, method: post, json: true, who: (*settings).verified, decide: listTagged},
		{path: PathTags, method: get, who: (*settings).verified, decide: listTags},

		{path: PathQuota, method: post, json: true, decide: getQuota},
		{path: PathClearQuota, method: post, json: true, decide: clearQuota},
		{path: PathRID, method: post, json: true, decide: getRID},
		{path: PathDomainIP, method: get, decide: listIPs},
		{path: PathCallbackIP, method: get, decide: listIPs},
	}
	byPath := map[string]*endpoint{}
	for i, ep := range list {
		ep.number = i
		byPath[ep.path] = &ep
	}
	for _, ep := range byPath {
		if ep.quota == "" {
			ep.quota = ep.path
		}
		ep.meter = byPath[ep.quota].number
	}
	return byPath
}

// Template messages and subscription notifications are for verified service accounts (认证服务号).
func maySendTemplates(s *settings) bool { return s.verified() && s.Type != Subscription }

// Mass send to a list of openids is for verified service accounts; test accounts are refused (48001).
func maySendLists(s *settings) bool { return s.verified() && s.Type == Service }
