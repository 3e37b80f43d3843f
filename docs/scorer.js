// The order of what a search finds: functions and classes first, then titles, then text
var Scorer = {
  objNameMatch: 60, objPartialMatch: 12,
  objPrio: { 0: 15, 1: 5, 2: -5 }, objPrioDefault: 0,
  title: 15, partialTitle: 7,
  term: 5, partialTerm: 2,
};
