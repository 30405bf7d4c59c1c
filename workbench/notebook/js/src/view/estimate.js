// The estimate of what is written, as one line; how it was made, for whoever asks.

import { h, setText } from "../dom.js";
import { estimateDetail, estimateLine, TOO_LONG, tooLong } from "../wording.js";

let views = 0;

export class EstimateView {
  #line = h("span");
  #detail = h("span", { class: "wb-hidden" });
  element = h("span", { class: "wb-estimate", id: `wb-estimate-${++views}`, hidden: true }, this.#line, this.#detail);

  update(estimate) {
    this.element.hidden = estimate === null;
    if (estimate === null) return setText(this.#detail, "");
    const long = tooLong(estimate);
    setText(this.#line, long ? `${estimateLine(estimate)} · ${TOO_LONG}` : estimateLine(estimate));
    setText(this.#detail, `. ${estimateDetail(estimate)}`);
    this.element.title = estimateDetail(estimate);
    this.element.toggleAttribute("data-long", long);
  }
}
