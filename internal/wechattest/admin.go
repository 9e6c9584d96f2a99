package wechattest

import "net/http"

const adminPrefix = "/_sim/"

func (s *Sim) adminRoutes() http.Handler { return http.NotFoundHandler() }
