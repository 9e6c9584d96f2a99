import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const api = createClient<paths>({
  baseUrl: process.env.HONGYAN_URL!,
  headers: { Authorization: `Bearer ${process.env.HONGYAN_API_KEY}` },
});

const { data, error, response } = await api.POST("/v1/messages", {
  body: {
    account: "shop", kind: "template", to: "oABCdefGHIjklMNOpqrSTUvwxYZ0", key: "order-1003-shipped",
    template: { template_id: "delivery", data: { character_string1: { value: "SF1234567890" }, thing2: { value: "明前龙井" }, phrase3: { value: "已发货" } } },
  },
});
if (error || !("id" in data && data.id)) { // on 429 and 503, post it again after Retry-After seconds: with the key it is sent once
  throw new Error(`${response.status}: ${error?.detail} ${error?.remedy ?? ""}`);
}
const { data: message } = await api.GET("/v1/messages/{id}", { params: { path: { id: data.id }, query: { explain: true } } });
console.log(message?.status, message?.why, message?.timeline);
