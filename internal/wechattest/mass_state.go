package wechattest

// MassRules are the rules of mass send (群发).
type MassRules struct{}

func (m MassRules) withDefaults() MassRules { return m }

type massState struct{}
