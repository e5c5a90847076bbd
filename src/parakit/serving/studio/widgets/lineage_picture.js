// The artifacts that a model was made from, left to right. All words are text that Vue escapes.
export default {
  template: `
    <div class="studio-scroll" tabindex="0" role="region" aria-label="Lineage">
      <svg class="lineage" :width="drawing.width" :height="drawing.height" role="img" :aria-label="summary"
           :viewBox="'0 0 ' + drawing.width + ' ' + drawing.height">
        <defs><marker id="lineage-tip" viewBox="0 0 6 6" refX="5.5" refY="3" markerWidth="6" markerHeight="6" orient="auto"><path d="M0 0L6 3L0 6z"/></marker></defs>
        <path v-for="(edge, i) in drawing.edges" :key="'e' + i" class="lineage-edge" :d="edge" marker-end="url(#lineage-tip)"/>
        <g v-for="(node, i) in drawing.nodes" :key="'n' + i" :transform="'translate(' + node.x + ' ' + node.y + ')'">
          <rect :width="drawing.box_width" :height="drawing.box_height" rx="8"/>
          <text class="lineage-stage" x="10" y="22">{{ node.stage }}</text>
          <text x="10" y="39">{{ node.line }}</text>
          <text class="lineage-digest" x="10" y="56">{{ node.digest }}</text>
        </g>
      </svg>
    </div>`,
  props: { drawing: Object },
  computed: { summary() { return "Made from: " + this.drawing.nodes.map((node) => node.stage).join(", "); } },
};
